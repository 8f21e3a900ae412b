"""Tools from Debian for the proofs: kustomize, Prometheus, podman, unpacked into a folder and never installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# The modules beside this file and of the containers' proof serve the tests only, and are no package.
sys.path.insert(0, str(Path(__file__).parents[1] / "docker"))
sys.path.insert(0, str(Path(__file__).parent))

import proof_packages


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tools are fetched for those who ask for it by name: `-m proof`."""
    if "proof" in (config.option.markexpr or ""):
        return
    asked = [item for item in items if item.get_closest_marker("proof") is None]
    config.hook.pytest_deselected(items=[item for item in items if item not in asked])
    items[:] = asked


@pytest.fixture(scope="session")
def proof_folder() -> Iterator[Path]:
    """Where packages lie: INKWELL_PROOF_FOLDER, or a folder that goes again; its name is short, for sockets."""
    kept = os.environ.get("INKWELL_PROOF_FOLDER")
    folder = Path(kept) if kept else Path(tempfile.mkdtemp(prefix="ink-", dir="/tmp"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        if not kept:
            shutil.rmtree(folder)


@pytest.fixture(scope="session")
def debian(proof_folder: Path) -> None:
    """Skips where Debian's packages cannot be unpacked and run."""
    if shutil.which("apt-get") is None or not proof_packages.KEYRING.exists():
        pytest.skip("the tools come from Debian's packages; this is no Debian")


@pytest.fixture(scope="session")
def kustomize(proof_folder: Path, debian: None) -> list[str]:
    """The command that composes a folder of manifests: what is installed, else Debian's."""
    for program, verb in (("kustomize", "build"), ("kubectl", "kustomize")):
        if found := shutil.which(program):
            return [found, verb]
    programs = proof_packages.fetch("trixie", ("kustomize",), proof_folder / "kustomize")
    return [str(programs / "kustomize"), "build"]


@pytest.fixture(scope="session")
def prometheus(proof_folder: Path, debian: None) -> Path:
    """The folder of the programs `prometheus` and `promtool`."""
    programs = proof_packages.fetch("bookworm", ("prometheus",), proof_folder / "prometheus")
    subprocess.run([programs / "promtool", "--version"], check=True, capture_output=True)
    return programs
