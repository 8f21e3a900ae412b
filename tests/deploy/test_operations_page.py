"""The commands of docs/operations.md: run on a real stack, or checked against what they name."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from deploy.k8s import bot, commands, gateway
from deploy.ports import free_run

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
FENCE = re.compile(r"(<!-- (\w+) -->\n)?^```\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(kind, body) for _, kind, body in FENCE.findall(PAGE)]
KINDS = {"machine", "compose", "cluster"}


def lines(kind: str) -> list[str]:
    return [line for found, body in BLOCKS if found == kind for line in body.splitlines()]


def test_every_block_says_where_it_belongs_and_every_runbook_is_there() -> None:
    assert {kind for kind, _ in BLOCKS} == KINDS
    headings = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    assert headings == [
        "First install", "Add a model", "Roll a model", "Scale", "Lose a node", "Drain", "Back up", "Upgrade"
    ]  # fmt: skip
    for section in PAGE.split("\n## ")[1:]:
        assert FENCE.search(section), section[:40]


# In a cluster

CLUSTER = [line for line in lines("cluster") if line.startswith("kubectl")]


@cache
def names_of(kind: str) -> set[str]:
    tree = commands.shipped()
    return {
        thing["metadata"]["name"]
        for overlay in tree.overlays
        for thing in tree.composed(overlay)
        if thing["kind"] == kind
    }


def wrong_in(line: str) -> list[str]:
    """Objects and folders that a kubectl command names and that are not there."""
    words = shlex.split(line)
    wrong = []
    for word in words:
        if found := re.fullmatch(r"deployment/([\w-]+)", word):
            wrong += [word] if found[1] not in names_of("Deployment") else []
        elif word.startswith("deploy/"):
            wrong += [word] if not (ROOT / word / "kustomization.yaml").is_file() else []
    for kind, known in (
        ("secret", {gateway.KEYS, bot.SECRET}),
        ("pvc", names_of("PersistentVolumeClaim")),
        ("namespace", {"inkwell"}),
    ):
        named = (
            [word for word in words[words.index(kind) + 1 :] if word != "generic"] if kind in words else []
        )
        if named and not named[0].startswith("-") and named[0] not in known:
            wrong.append(f"{kind} {named[0]}")
    if "--namespace" in words and words[words.index("--namespace") + 1] != "inkwell":
        wrong.append("another namespace")
    return wrong


@pytest.mark.parametrize("line", CLUSTER)
def test_command_for_a_cluster_names_what_exists(line: str) -> None:
    assert wrong_in(line) == []


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("kubectl rollout status deployment/inkwell-worker-verse", "deployment/inkwell-worker-verse"),
        ("kubectl apply -k deploy/k8s/overlays/cpus", "deploy/k8s/overlays/cpus"),
        ("kubectl get secret keys --namespace inkwell", "secret keys"),
        ("kubectl get pvc inkwell-bots", "pvc inkwell-bots"),
        ("kubectl get pods --namespace default", "another namespace"),
    ],
)
def test_command_that_names_nothing_is_noticed(line: str, complaint: str) -> None:
    assert wrong_in(line) == [complaint]


@pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl, which knows its own options, is not here"
)
def test_kubectl_knows_every_option() -> None:
    general = subprocess.run(["kubectl", "options"], capture_output=True, text=True, check=True).stdout
    shown: dict[tuple[str, ...], str] = {}
    for line in CLUSTER:
        words = shlex.split(line)[1:]
        deeper = {"rollout": 2, "set": 2, "create": 3 if words[1] == "secret" else 2}.get(words[0], 1)
        verb = tuple(words[:deeper])
        if verb not in shown:
            shown[verb] = subprocess.run(
                ["kubectl", *verb, "--help"], capture_output=True, text=True, check=True
            ).stdout
        for word in words:
            if word.startswith("--"):
                option = word.partition("=")[0]
                assert re.search(rf"{option}[=\s]", shown[verb] + general), f"{line}: {option}"


# On a machine

NAMES = "name,category\n" + "".join(
    f"{a}{b},{'elf' if b == 'iel' else 'dwarf'}\n"
    for a in ("Ara", "Bel", "Cal", "Dor", "El", "Fin", "Gal", "Hal", "Ith", "Jor", "Kel", "Lor", "Mor", "Nim")
    for b in ("iel", "dur", "grim")
)


@pytest.mark.e2e
@pytest.mark.slow
def test_commands_for_a_machine_work_in_the_order_of_the_page(tmp_path: Path, char_bundle: Path) -> None:
    """In a folder of its own, with one tiny model and two steps of training; everything else is as printed."""
    shutil.copytree(char_bundle, tmp_path / "bundles/prose")
    (tmp_path / "deploy").mkdir()
    shipped = (ROOT / "deploy/models.toml").read_text(encoding="utf-8")
    (tmp_path / "deploy/models.toml").write_text(shipped.partition("[models.names]")[0], encoding="utf-8")
    (tmp_path / "my-names.csv").write_text(NAMES, encoding="utf-8")
    port = free_run(6)
    worker_port = port + 1
    script = "set -euo pipefail\n" + "\n".join(lines("machine")) + "\n"
    script = script.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    script, trained = re.subn(
        r"^(inkwell train names .*)$", r"\1 --set fit.steps=2", script, flags=re.MULTILINE
    )
    assert trained == 1
    environment = {name: value for name, value in os.environ.items() if not name.startswith("INKWELL_")} | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "INKWELL_MODELS_FILE": str(tmp_path / "deploy/models.toml"),
        "INKWELL_PORT": str(port),
        "INKWELL_WORKER_PORT": str(worker_port),
        "INKWELL_STARTUP_S": "300",
    }
    try:
        answer = subprocess.run(
            ["bash", "-x", "-c", script],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900,
        )  # fmt: skip
        assert answer.returncode == 0, answer.stdout[-3000:] + answer.stderr[-3000:]
    finally:
        subprocess.run(
            [sys.executable, "-m", "training", "stop"], cwd=tmp_path, env=environment, capture_output=True
        )
    # What the page promises of each step.
    assert '"1.1"' in answer.stdout, "the new release answers"
    assert '"elves"' in answer.stdout, "the new model is described"
    assert "bundles/prose/config.json" in answer.stdout, "the backup holds the bundles"
    assert not (tmp_path / "run/inkwell.json").exists(), "nothing runs at the end"
