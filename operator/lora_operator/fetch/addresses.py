"""Which IP addresses belong to nobody's file store: those that only the inside of a network may reach. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address

# Where clouds hand out credentials to whoever asks from inside: link-local, and those that are not.
_METADATA = tuple(
    ip_network(text)
    for text in ("169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128", "100.100.100.200/32", "168.63.129.16/32")
)
# Networks whose last four bytes are an IPv4 address that the packet ends up at.
_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))


def as_address(host: str) -> Address | None:
    """The address that `host` is; None for a name."""
    try:
        return ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None


def is_metadata(address: Address) -> bool:
    """Whether machines are asked about themselves there."""
    meant = _meant(address)
    return any(meant in network for network in _METADATA if network.version == meant.version)


def is_private(address: Address) -> bool:
    """Whether it is anything but an address of the open internet: private, loopback, link-local, multicast, …"""
    meant = _meant(address)
    return not meant.is_global or meant.is_multicast or meant.is_unspecified


def _meant(address: Address) -> Address:
    """The IPv4 address inside an IPv6 address that only wraps it."""
    if isinstance(address, IPv4Address):
        return address
    if any(address in network for network in _NAT64):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
