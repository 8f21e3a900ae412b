"""What a container may use of its machine: the limits that Linux's control groups set, both versions of them.

A process in a container sees the whole machine's memory and cores. What it gets is the least that stands in its
group and in those above it: `memory.max` and `cpu.max` of version 2, `memory.limit_in_bytes` and `cpu.cfs_*` of
version 1. A limit that cannot be read is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/")
_MOUNT = Path("sys/fs/cgroup")


def memory_limit_mb(root: Path = ROOT) -> int | None:
    """MiB that this process and its neighbours in the group may use together; None without a limit."""
    found = [*_numbers(root, "", "memory.max"), *_numbers(root, "memory", "memory.limit_in_bytes")]
    return min(found) // 2**20 if found else None


def cpu_limit(root: Path = ROOT) -> float | None:
    """Cores' worth of time that the group gets; None without a limit.

    Version 2 writes `quota period` in microseconds, version 1 each in a file of its own, with -1 for no quota.
    """
    found = []
    for folder in _folders(root, ""):
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        if quota.isdigit() and period.strip().isdigit() and int(period):
            found.append(int(quota) / int(period))
    for folder in _folders(root, "cpu"):
        quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period):
            found.append(int(quota) / int(period))
    return min(found) if found else None


def _numbers(root: Path, controller: str, name: str) -> Iterator[int]:
    for folder in _folders(root, controller):
        text = _text(folder / name)
        if text.isdigit():
            yield int(text)


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """The folder of this process's group and all above it. `controller` is empty for version 2.

    Within a container the path that /proc tells may be the machine's and not be there; its mount is then the group.
    """
    mount = root / _MOUNT
    if controller:
        mount = next(
            (path for path in (mount / controller, mount / "cpu,cpuacct") if path.is_dir()),
            mount / controller,
        )
    told = PurePosixPath("/")
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if (controller in controllers.split(",")) if controller else not controllers:
            told = PurePosixPath(path)
    parts = [part for part in told.parts if part not in ("/", "..")]
    for length in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:length])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
