from __future__ import annotations

from pathlib import Path

import pytest

from deploy.inventory import (
    Gpu,
    Inventory,
    InventoryError,
    described,
    detect,
    detect_gpus,
    parse_memory,
    parse_nvidia_smi,
    visible,
)

TWO = (Gpu(0, 81559, "NVIDIA H100", "GPU-aa"), Gpu(1, 24564, "NVIDIA L4", "GPU-bb"))


@pytest.mark.parametrize(
    ("text", "mb"), [("80G", 81920), ("24GiB", 24576), ("8000M", 8000), ("512", 512), ("1.5 GB", 1536)]
)
def test_memory_sizes_are_read(text: str, mb: int) -> None:
    assert parse_memory(text) == mb


@pytest.mark.parametrize("text", ["", "G", "0G", "-1G", "80X", "0.1M"])
def test_bad_memory_size_is_refused(text: str) -> None:
    with pytest.raises(InventoryError, match="80G"):
        parse_memory(text)


def test_nvidia_smi_lines_become_gpus() -> None:
    assert parse_nvidia_smi("0, GPU-aa, 81559, NVIDIA H100\n1, GPU-bb, 24564, NVIDIA L4\n\n") == TWO


def test_unreadable_nvidia_smi_line_is_an_error_not_a_lost_gpu() -> None:
    with pytest.raises(InventoryError, match=r"\[N/A\]"):
        parse_nvidia_smi("0, GPU-aa, [N/A], NVIDIA H100\n")


def test_real_program_is_asked(tmp_path: Path) -> None:
    fake = tmp_path / "smi"
    fake.write_text("#!/bin/sh\necho '0, GPU-aa, 81559, NVIDIA H100'\n")
    fake.chmod(0o755)
    assert detect_gpus([str(fake)]) == TWO[:1]


@pytest.mark.parametrize("script", ["exit 9", "echo nonsense; exit 1"])
def test_failing_program_means_no_gpus(tmp_path: Path, script: str) -> None:
    fake = tmp_path / "smi"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    assert detect_gpus([str(fake)]) == ()


def test_missing_or_broken_program_means_no_gpus(tmp_path: Path) -> None:
    broken = tmp_path / "smi"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    assert detect_gpus([str(tmp_path / "none")]) == detect_gpus([str(broken)]) == ()


@pytest.mark.parametrize(
    ("setting", "uuids"),
    [
        (None, ["GPU-aa", "GPU-bb"]),
        ("1,0", ["GPU-bb", "GPU-aa"]),
        ("GPU-bb", ["GPU-bb"]),
        ("", []),
        ("-1", []),
        ("0,7,1", ["GPU-aa"]),
    ],
)
def test_visible_devices_choose_and_renumber(setting: str | None, uuids: list[str]) -> None:
    seen = visible(TWO, setting)
    assert [gpu.uuid for gpu in seen] == uuids
    assert [gpu.index for gpu in seen] == list(range(len(uuids)))


def test_described_machine_has_what_was_asked() -> None:
    machine = described(4, "80G")
    assert [gpu.index for gpu in machine.gpus] == [0, 1, 2, 3]
    assert {gpu.memory_mb for gpu in machine.gpus} == {81920}
    with pytest.raises(InventoryError, match="gpus = 65"):
        described(65, "80G")


def test_one_gpu_twice_is_refused() -> None:
    with pytest.raises(InventoryError, match="device id"):
        Inventory((Gpu(0, 1), Gpu(0, 1, uuid="x")))


def test_this_machine_has_cores_and_memory() -> None:
    here = detect(visible_devices="")
    assert here.cpus >= 1
    assert here.memory_mb is not None
    assert here.memory_mb > 100
    assert here.gpus == ()
