"""TorchServe's sockets, as the system sees them, and the sessions of keys: the real service from outside."""

from __future__ import annotations

import socket

import psutil
import pytest
from fault_stack import FaultStack

from deploy.ports import exposed, is_loopback

pytestmark = pytest.mark.faults


def listening(process: psutil.Process) -> list[tuple[str, int]]:
    family = [process, *process.children(recursive=True)]
    return [
        (connection.laddr.ip, connection.laddr.port)
        for one in family
        for connection in one.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    ]


def test_torchserve_listens_on_loopback_only(single: FaultStack):
    jvm = single.jvm()
    found = listening(jvm)
    ports = {port for _, port in found}
    assert ports >= {single.worker_port + offset for offset in range(5)}, "all five are seen"
    assert [place for place in found if not is_loopback(place[0])] == []
    assert exposed(jvm.pid) == []


def test_no_other_address_of_this_machine_reaches_torchserve(single: FaultStack):
    addresses = {
        address.address
        for interface in psutil.net_if_addrs().values()
        for address in interface
        if address.family == socket.AF_INET and not is_loopback(address.address)
    }
    for address in addresses:
        for offset in range(5):
            with pytest.raises(OSError, match=r"refused|timed out|unreachable"):
                socket.create_connection((address, single.worker_port + offset), timeout=2)
