"""Addresses: which IP addresses belong to the public internet. Webhooks are sent to no others.

The tables of `ipaddress` differ between versions of Python, and list special ranges, not the ranges in use. So only the
IPv6 range from which IANA assigns addresses is accepted, and an IPv4 address within an IPv6 one must be public itself.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

GLOBAL_UNICAST = IPv6Network("2000::/3")  # RFC 4291: everything else is local, multicast or unassigned
NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: IPv4 behind a translator
SPECIAL = tuple(
    ip_network(network)
    for network in (
        "161.26.0.0/16",  # services of IBM Cloud, which only its own networks reach
        "166.8.0.0/14",  # the same
        "168.63.129.16/32",  # Azure's platform: certificates and extensions of the virtual machine
        "192.0.0.0/24",  # IETF protocol assignments, RFC 6890
        "192.88.99.0/24",  # 6to4 relays, RFC 7526
        "199.36.153.4/30",  # Google Cloud's private access to its interfaces
        "199.36.153.8/30",  # the same
        "2001::/23",  # IETF protocol assignments: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, RFC 7526: it can reach any IPv4 address
        "3fff::/20",  # documentation, RFC 9637
    )
)


def is_public(address: str) -> bool:
    """Whether an address belongs to the public internet: not loopback, private, link-local, shared, multicast..."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv6Address):
        inner = _inner(found)
        if inner is None:
            return found.scope_id is None and found in GLOBAL_UNICAST and found.is_global and not _is_special(found)
        found = inner
    return found.is_global and not (found.is_multicast or found.is_reserved or _is_special(found))


def literal(host: str) -> str | None:
    """The address that a host denotes without a look-up, in any form that resolvers accept (127.1, 0x7f000001)."""
    if host.rstrip(".") == "localhost" or host.rstrip(".").endswith(".localhost"):  # RFC 6761
        return "127.0.0.1"
    try:
        return str(ip_address(host))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return None


def _inner(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address within an IPv6 one (NAT64 or mapped); None if there is none."""
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped


def _is_special(address: IPv4Address | IPv6Address) -> bool:
    return any(address in network for network in SPECIAL)
