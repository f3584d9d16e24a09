"""The queueing model: how long a job waits when jobs arrive at random and `servers` of them are folded at a time.

M/G/c by the approximation of Allen and Cunneen (A. O. Allen, Probability, Statistics, and Queueing Theory, 2nd edition,
section 5.3): the wait of M/M/c, which Erlang's C formula gives, times half the sum of the squared coefficients of
variation of the times between arrivals (1: a Poisson process) and of the times of service.
"""

from __future__ import annotations

from dataclasses import dataclass

ARRIVALS = 1.0  # squared coefficient of variation of the times between arrivals of a Poisson process


@dataclass(frozen=True)
class Load:
    """Jobs that arrive at `rate` a second and take `service` seconds, with this squared coefficient of variation."""

    rate: float
    service: float
    variation: float

    def utilization(self, servers: int) -> float:
        """The share of the time in which a server works."""
        return self.rate * self.service / servers

    def wait(self, servers: int) -> float:
        """The mean wait in seconds; infinite if the servers cannot do the work."""
        used = self.utilization(servers)
        if used >= 1:
            return float("inf")
        mean = erlang_c(servers, self.rate * self.service) * self.service / (servers * (1 - used))
        return mean * (ARRIVALS + self.variation) / 2

    def servers(self, wait: float) -> int:
        """The fewest servers with which the mean wait is at most `wait` seconds."""
        servers = max(int(self.rate * self.service), 1)
        while self.wait(servers) > wait:
            servers += 1
        return servers


def erlang_c(servers: int, offered: float) -> float:
    """The probability that an arrival finds all servers busy in M/M/c; `offered`, in Erlangs, is below `servers`.

    By the recursion for Erlang's B, which overflows for no number of servers.
    """
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = offered * blocked / (number + offered * blocked)
    used = offered / servers
    return blocked / (1 - used * (1 - blocked))
