from __future__ import annotations

import os
import socket
import sys

import pytest

from deploy import ports
from deploy.errors import OptionError, PortTakenError
from deploy.ports import Port, check, free_run, holder_of, is_free


def test_taken_port_is_named_with_its_holder_and_the_option() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        number = server.getsockname()[1]
        with pytest.raises(PortTakenError) as refused:
            check(
                [Port("127.0.0.1", free_run(1), "gateway", "--port"), Port("127.0.0.1", number, "x", "--why")]
            )
        for part in (f"port {number} (x) is taken", f"process {os.getpid()}", "--why"):
            assert part in str(refused.value)
    assert is_free("127.0.0.1", number)
    assert holder_of(number) is None


def test_port_stays_free_while_old_connections_linger() -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        number = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", number)):
            accepted, _ = server.accept()
            accepted.close()  # The side that closes first keeps the connection in TIME_WAIT.
    assert is_free("127.0.0.1", number)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.7"])
def test_host_that_cannot_be_bound_is_an_option_error(host: str) -> None:
    with pytest.raises(OptionError, match=host):
        is_free(host, 18000)


def test_free_run_is_free_throughout() -> None:
    first = free_run(5)
    assert all(is_free("127.0.0.1", first + n) for n in range(5))


def test_free_run_keeps_clear_of_outgoing_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_outgoing_ports", lambda: (10_020, 65_520))
    for _ in range(50):
        first = free_run(5)
        assert 10_000 <= first <= 10_015 or 65_521 <= first <= 65_531


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the range is read from Linux's own file")
def test_outgoing_connections_get_their_ports_from_the_range_that_is_kept_clear() -> None:
    low, high = ports._outgoing_ports()
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        for _ in range(20):
            with socket.create_connection(server.getsockname()) as outgoing:
                assert low <= outgoing.getsockname()[1] <= high


def test_free_run_where_every_port_may_be_outgoing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_outgoing_ports", lambda: (1024, 65535))
    first = free_run(5)
    assert 10_000 <= first <= 65531
    assert all(is_free("127.0.0.1", first + n) for n in range(5))
