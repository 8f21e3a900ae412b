"""Ports: which are free, who holds the others."""

from __future__ import annotations

import errno
import ipaddress
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from deploy.errors import OptionError, PortTakenError

# Below it live services that people know by their ports.
_LEAST = 10_000


@dataclass(frozen=True)
class Port:
    """A port that is going to be bound; `option` is what a user changes when it is taken."""

    host: str
    number: int
    purpose: str
    option: str


def check(ports: Sequence[Port]) -> None:
    """Raises `PortTakenError` for the first of `ports` that is in use, `OptionError` for a bad host."""
    for port in ports:
        if not is_free(port.host, port.number):
            holder = holder_of(port.number)
            by = f" by {holder}" if holder else ""
            raise PortTakenError(
                f"port {port.number} ({port.purpose}) is taken{by}. Stop what uses it "
                f"(`inkwell stop`, if it is Inkwell), or choose another with {port.option}."
            )


def is_free(host: str, number: int) -> bool:
    """Whether `number` can be bound on `host` now. Raises `OptionError` when it never could."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise OptionError(f"host = {host!r}: cannot be resolved: {error.strerror}") from None
    with socket.socket(family, kind, protocol) as probe:
        # Without this a port counts as taken for a minute after its last connection closed.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except PermissionError:
            raise OptionError(f"port = {number}: binding it needs rights that this user lacks") from None
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise OptionError(f"host = {host!r}: cannot be bound: {error.strerror}") from None
    return True


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address, can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    # Java binds 127.0.0.1 as ::ffff:127.0.0.1, which older Pythons do not take for loopback.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def exposed(pid: int) -> list[str]:
    """Where process `pid` and its children listen so that other machines can reach them, as HOST:PORT."""
    found = []
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        for process in family:
            for connection in process.net_connections(kind="tcp"):
                if connection.status == psutil.CONN_LISTEN and not is_loopback(connection.laddr.ip):
                    found.append(f"{connection.laddr.ip}:{connection.laddr.port}")
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        # It ends just now, and then serves nobody; or it is another user's, and then it is not ours to judge.
        return found
    return found


def holder_of(number: int) -> str | None:
    """The process that listens on `number`, in words; None when this user may not see it."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return None
    for connection in connections:
        if connection.status != psutil.CONN_LISTEN or not connection.laddr:
            continue
        if connection.laddr.port == number and connection.pid:
            try:
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
            except psutil.NoSuchProcess:
                return None
    return None


def free_run(length: int, host: str = "127.0.0.1") -> int:
    """The first of `length` consecutive ports that are all free at this moment.

    Taken from outside the range of which the system gives outgoing connections their ports: one of those may
    take a free port in the moment before a server binds it.
    """
    low, high = _outgoing_ports()
    firsts = [*range(_LEAST, low - length + 1), *range(high + 1, 65536 - length + 1)]
    # Somebody may let outgoing connections have every port.
    firsts = firsts or list(range(_LEAST, 65536 - length + 1))
    while True:
        first: int = secrets.choice(firsts)
        if all(is_free(host, first + n) for n in range(length)):
            return first


def _outgoing_ports() -> tuple[int, int]:
    """The first and the last port that outgoing connections get."""
    try:
        first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    except FileNotFoundError:  # not Linux: the range that IANA names for it, RFC 6335, section 6
        return 49152, 65535
    return int(first), int(last)
