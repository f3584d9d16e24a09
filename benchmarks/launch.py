"""Run one command and print, as JSON, what it used. This is a separate script, because it must use little memory.

Linux counts a process's peak memory from before exec, while the process is a copy of its parent. So the parent must use
less memory than any figure worth reading. This one, in isolated mode, uses about 10 MB.
"""

from __future__ import annotations

import os
import signal
import sys
from time import perf_counter

TYPE_CHECKING = False  # `typing` is not needed, so it is not imported
if TYPE_CHECKING:
    from types import FrameType

NULL = "/dev/null"


def main(log: str, timeout: str, command: list[str]) -> None:
    """Run `command`, write its output to the file `log`, and kill it and its children after `timeout` seconds.

    Prints wall and CPU seconds (user + system, children included), the peak memory in KiB of the largest of its
    processes, the exit code (negative: the signal that ended it), and whether the time expired.
    """
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, NULL, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    expired = False
    start = perf_counter()
    pid = os.posix_spawnp(command[0], command, os.environ, file_actions=actions, setpgroup=0)

    def expire(_: int, __: FrameType | None) -> None:
        nonlocal expired
        expired = True
        os.killpg(pid, signal.SIGKILL)

    signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, float(timeout))
    try:
        _, status, usage = os.wait4(pid, 0)
    except KeyboardInterrupt:
        os.killpg(pid, signal.SIGKILL)
        raise
    wall = perf_counter() - start
    signal.setitimer(signal.ITIMER_REAL, 0)
    cpu, code = usage.ru_utime + usage.ru_stime, os.waitstatus_to_exitcode(status)
    figures = f'"wall": {wall}, "cpu": {cpu}, "peak_kib": {usage.ru_maxrss}, "code": {code}'
    print(f'{{{figures}, "expired": {str(expired).lower()}}}')


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
