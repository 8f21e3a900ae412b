"""The images that the manifests name: each is built by a Dockerfile, linted, with what its programs import."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.k8s import commands
from deploy.k8s.cluster import Cluster

ROOT = Path(__file__).resolve().parents[3]
DOCKER = ROOT / "deploy/docker"
# What the programs of the tools' image import: module -> the name of its package.
PACKAGES = {"yaml": "pyyaml"}


def packages(name: str) -> set[str]:
    lines = (DOCKER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return {line.strip() for line in lines if line.strip() and not line.startswith("#")}


def test_every_image_of_the_manifests_has_a_dockerfile() -> None:
    tree = commands.shipped()
    images = {
        container["image"].partition(":")[0]
        for overlay in tree.overlays
        for pod in Cluster(tree.composed(overlay)).pods
        for container in pod.containers
    }
    assert images == {f"inkwell-{name}" for name in ("gateway", "worker", "worker-cuda", "models", "tools")}
    for image in images - {"inkwell-worker-cuda"}:  # the worker's, with another build of torch
        assert (DOCKER / f"Dockerfile.{image.removeprefix('inkwell-')}").is_file()


@pytest.mark.parametrize("name", ["models", "tools"])
def test_dockerfile_is_linted_and_ends_as_the_workers_user(name: str) -> None:
    # Versions of Debian packages are the base image's to choose, and the worker's image is named by an argument.
    command = [
        Path(sys.executable).parent / "hadolint",
        "--ignore",
        "DL3008",
        "--ignore",
        "DL3006",
        "--no-color",
    ]
    answer = subprocess.run([*command, DOCKER / f"Dockerfile.{name}"], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout
    text = (DOCKER / f"Dockerfile.{name}").read_text(encoding="utf-8")
    last = text[text.rindex("\nFROM ") :]
    assert last.startswith("\nFROM ${WORKER}")
    assert "USER" not in last


@pytest.mark.parametrize("name", ["models", "tools"])
def test_what_a_dockerfile_copies_is_in_its_context(name: str) -> None:
    text = (DOCKER / f"Dockerfile.{name}").read_text(encoding="utf-8")
    let_in = [
        line[1:]
        for line in (DOCKER / f"Dockerfile.{name}.dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    ]
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for source in line.split():
            assert source in let_in, source


def third_party(*folders: str) -> set[str]:
    """Modules that the files of `folders` import when they are imported, but our own and Python's."""
    found: set[str] = set()
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    ours = {"inkwell", "training", "handlers", "api", "deploy"}
    return found - ours - set(sys.stdlib_module_names)


def test_the_tools_image_has_what_training_and_the_bot_import() -> None:
    """By running the two programs' imports and looking at what came in."""
    code = (
        "import sys, importlib\n"
        "import training.cli, training.commands.post, training.commands.train\n"
        "print(' '.join({name.split('.')[0] for name in sys.modules}))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    needed = third_party("inkwell", "training") & set(loaded)
    have = packages("worker") | packages("tools")
    missing = {PACKAGES.get(name, name) for name in needed} - have - {"tomli"}
    assert missing == set()
    assert {"typer", "torch", "httpx"} <= needed
