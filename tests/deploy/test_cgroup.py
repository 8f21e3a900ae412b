"""A container's limits, read from trees like those that Linux makes, and planned for."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy import cgroup, inventory
from deploy.models_file import loads
from deploy.plan import PlanRefusedError, plan

GIB = 2**30


class Machine:
    """A root folder with the files that are given."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str) -> Machine:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text + "\n", encoding="utf-8")
        return self


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_nothing_there_means_no_limit(machine: Machine) -> None:
    assert cgroup.memory_limit_mb(machine.root) is None
    assert cgroup.cpu_limit(machine.root) is None


def test_version_2_within_a_container(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "0::/").write("sys/fs/cgroup/memory.max", str(3 * GIB))
    machine.write("sys/fs/cgroup/cpu.max", "150000 100000")
    assert cgroup.memory_limit_mb(machine.root) == 3072
    assert cgroup.cpu_limit(machine.root) == 1.5


def test_version_2_without_limits(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "0::/").write("sys/fs/cgroup/memory.max", "max")
    machine.write("sys/fs/cgroup/cpu.max", "max 100000")
    assert cgroup.memory_limit_mb(machine.root) is None
    assert cgroup.cpu_limit(machine.root) is None


def test_version_2_the_least_of_the_groups_above_counts(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "0::/kubepods/pod1/c1")
    machine.write("sys/fs/cgroup/kubepods/pod1/c1/memory.max", str(4 * GIB))
    machine.write("sys/fs/cgroup/kubepods/pod1/memory.max", str(2 * GIB))
    machine.write("sys/fs/cgroup/kubepods/memory.max", "max")
    machine.write("sys/fs/cgroup/kubepods/pod1/cpu.max", "400000 100000")
    assert cgroup.memory_limit_mb(machine.root) == 2048
    assert cgroup.cpu_limit(machine.root) == 4


def test_version_1_within_a_container_whose_path_is_the_machines(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "9:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/x")
    machine.write("sys/fs/cgroup/memory/memory.limit_in_bytes", str(GIB))
    machine.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000")
    machine.write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000")
    assert cgroup.memory_limit_mb(machine.root) == 1024
    assert cgroup.cpu_limit(machine.root) == 0.5


def test_version_1_without_limits(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "9:memory:/user\n4:cpu,cpuacct:/user")
    machine.write("sys/fs/cgroup/memory/user/memory.limit_in_bytes", "9223372036854771712")
    machine.write("sys/fs/cgroup/cpu,cpuacct/user/cpu.cfs_quota_us", "-1")
    machine.write("sys/fs/cgroup/cpu,cpuacct/user/cpu.cfs_period_us", "100000")
    limit = cgroup.memory_limit_mb(machine.root)
    assert limit is not None
    assert inventory.usable_memory(64_000, limit) == 64_000
    assert cgroup.cpu_limit(machine.root) is None


def test_a_path_that_leads_out_of_the_mount_stays_within(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "0::/../../other").write("sys/fs/cgroup/memory.max", str(GIB))
    assert cgroup.memory_limit_mb(machine.root) == 1024


def test_unreadable_numbers_are_no_limit(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "nonsense").write("sys/fs/cgroup/memory.max", "much")
    machine.write("sys/fs/cgroup/cpu.max", "100000 0")
    assert cgroup.memory_limit_mb(machine.root) is None
    assert cgroup.cpu_limit(machine.root) is None


def test_the_lesser_of_machine_and_limit_is_planned_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "memory_limit_mb", lambda: 1024)
    monkeypatch.setattr(cgroup, "cpu_limit", lambda: 0.3)
    here = inventory.detect(visible_devices="")
    assert (here.memory_mb, here.cpus) == (1024, 1)
    three = loads("[defaults]\nmemory_mb = 500" + "".join(
        f'\n[models.{name}]\nfamily = "prose"' for name in "abc"
    ))  # fmt: skip
    with pytest.raises(PlanRefusedError, match="main memory has 1024 MiB"):
        plan(three, here, {})
