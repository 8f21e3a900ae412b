"""A rendered worker pod, really run: its init container, its user, its limits, its models."""

from __future__ import annotations

import json
import os
import platform
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import proof_torch
import pytest
from proof_podman import Podman

from deploy.k8s.cluster import Cluster
from deploy.k8s.parts import Object, Options
from deploy.k8s.tree import render
from deploy.models_file import loads
from training.archive import archive

pytestmark = pytest.mark.proof
PATIENCE_S = 300.0
MODELS = '[models.prose]\nfamily = "prose"\nmax_new_tokens = 400\n'
POD = "inkwell-worker-prose-torchserve"


@pytest.fixture(scope="module")
def podman(proof_folder: Path, debian: None) -> Iterator[Podman]:
    if os.getuid() != 0 or 'VERSION_ID="12"' not in Path("/etc/os-release").read_text(encoding="utf-8"):
        pytest.skip("podman is unpacked and run as root on Debian bookworm; this is neither or only one")
    if platform.machine() != "x86_64":
        pytest.skip("the packages are fetched for x86-64")
    engine = Podman(proof_folder)
    try:
        engine.prepare()
        yield engine
    finally:
        engine.close(keep_images="INKWELL_PROOF_FOLDER" in os.environ)


@pytest.fixture(scope="module")
def images(podman: Podman, char_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The worker's image from its shipped Dockerfile, and one with a tiny model's archive."""
    folder = tmp_path_factory.mktemp("images")
    with warnings.catch_warnings():
        # torch-model-archiver leaves a file of its own open when it is imported.
        warnings.simplefilter("ignore", ResourceWarning)
        archive(char_bundle, folder / "model_store")
    with proof_torch.index(folder) as index:
        podman.build("inkwell-worker:0.1.0", "Dockerfile.worker", TORCH_INDEX=index)
    podman.run("image", "rm", "--force", "inkwell-models:0.1.0", check=False)
    podman.build("inkwell-models:0.1.0", "Dockerfile.models", folder, WORKER="localhost/inkwell-worker:0.1.0")


def rendered() -> tuple[Object, Object]:
    """The ConfigMap and the pod of the model's group; a pod is what a Deployment makes of its template."""
    models = loads(MODELS)
    things = render(models, models, Options()).composed("cpu")
    template = next(pod for pod in Cluster(things).pods if pod.component == "worker")
    # Podman refuses to name ports on a network that leads nowhere.
    for container in template.main:
        del container["ports"]
    name = template.owner["metadata"]["name"]
    config = next(t for t in things if t["kind"] == "ConfigMap" and t["metadata"]["name"] == name)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": dict(template.labels)},
        "spec": {**template.spec, "restartPolicy": "Always"},
    }
    return config, pod


@pytest.fixture(scope="module")
def running(podman: Podman, images: None) -> Podman:
    """The pod, once every worker of its plan is ready by its own readiness probe."""
    podman.play(*rendered())
    probe = rendered()[1]["spec"]["containers"][0]["readinessProbe"]["exec"]["command"]
    give_up = time.monotonic() + PATIENCE_S
    while podman.run("exec", POD, *probe, check=False).returncode != 0:
        logs = podman.run("logs", POD, check=False)
        assert time.monotonic() < give_up, logs.stdout[-3000:] + logs.stderr[-3000:]
        time.sleep(1)
    return podman


def test_init_container_has_copied_and_checked_the_model(running: Podman) -> None:
    """Podman removes an init container that succeeded; what it was for is there."""
    assert running.inside(POD, "ls", "/models").split() == ["index.json", "prose.mar"]
    listed = json.loads(running.inside(POD, "cat", "/models/index.json"))["archives"]["prose.mar"]
    assert running.inside(POD, "sha256sum", "/models/prose.mar").split()[0] == listed["sha256"]


def test_the_container_is_confined(running: Podman) -> None:
    status = running.inside(POD, "cat", "/proc/1/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == ["10001"] * 4
    assert {fields[name] for name in ("CapEff", "CapPrm", "CapBnd")} == {"0" * 16}
    assert fields["NoNewPrivs"] == "1"
    for folder in ("/", "/opt/inkwell", "/models", "/etc/inkwell"):
        assert "Read-only file system" in running.inside(POD, "touch", f"{folder}/new"), folder
    assert running.inside(POD, "touch", "/tmp/new") == ""


def test_memory_is_limited_and_the_plan_knows(running: Podman) -> None:
    limit = running.inspect(POD)["HostConfig"]["Memory"]
    asked = rendered()[1]["spec"]["containers"][0]["resources"]["limits"]["memory"]
    assert limit == int(asked.removesuffix("Mi")) * 2**20
    plan = json.loads(running.inside(POD, "cat", "/run/inkwell/plan.json"))
    assert plan["inventory"]["memory_mb"] == limit // 2**20
    assert list(plan["placements"]) == ["prose"]


def test_the_model_answers(running: Podman) -> None:
    body: dict[str, Any] = {"jobs": [{"id": "a", "prompt": "The", "seed": 3, "max_new_tokens": 20}]}
    code = (
        "import urllib.request as r; "
        f"q = r.Request('http://127.0.0.1:8080/predictions/prose', data={json.dumps(body)!r}.encode(), "
        "headers={'content-type': 'application/json'}); print(r.urlopen(q, timeout=60).read().decode())"
    )
    events = [
        json.loads(line) for line in running.inside(POD, "python", "-c", code).splitlines() if line.strip()
    ]
    assert events[-1]["event"] == "end"
    assert events[-1]["generated_tokens"] >= 1


def test_the_liveness_probe_is_answered(running: Podman) -> None:
    probe = rendered()[1]["spec"]["containers"][0]["livenessProbe"]["httpGet"]
    assert probe == {"path": "/ping", "port": "inference"}
    code = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/ping', timeout=10).status)"
    assert running.inside(POD, "python", "-c", code).strip() == "200"


def test_a_changed_archive_stops_the_pod_before_it_serves(running: Podman) -> None:
    """The same init container, on a store with one byte more."""
    config, pod = rendered()
    # A name of its own, and an init container that spoils the archive before it copies it.
    pod["metadata"]["name"] = "spoilt"
    first = pod["spec"]["initContainers"][0]
    spoil = "mkdir /tmp/s && cp /store/* /tmp/s/ && echo x >> /tmp/s/prose.mar && "
    spoil += "exec python -m deploy.copy_models /tmp/s /models"
    first["args"] = ["sh", "-c", spoil]
    pod["spec"]["restartPolicy"] = "Never"
    answer = running.run(
        "play",
        "kube",
        "--network",
        "none",
        "-",
        given=json.dumps(config) + "\n---\n" + json.dumps(pod),
        check=False,
    )
    said = running.run("logs", "spoilt-models", check=False)
    assert "has changed since it was built" in said.stdout + said.stderr, answer.stderr
    assert running.inspect("spoilt-torchserve")["State"]["Status"] != "running"
