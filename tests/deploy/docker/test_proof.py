"""The shipped images and compose file on a real engine: built, up, crashed, drained, gone."""

from __future__ import annotations

import errno
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from proof_engine import Engine
from proof_packages import MIRROR
from proof_stack import PATIENCE_S, ROOT, Load, Stack, until

from inkwell.bundle import load_bundle

pytestmark = pytest.mark.docker

# 96 texts of 400 tokens, four at a time: long enough to be in the middle of it.
BATCH: dict[str, Any] = {
    "model": "prose",
    "inputs": ["The harbour", "Old sailors"],
    "parameters": {"max_new_tokens": 400, "min_new_tokens": 400, "seed": 11, "n": 48, "details": True},
}
PROMETHEUS = """
FROM debian:bookworm-slim
RUN apt-get update && apt-get install --yes --no-install-recommends prometheus wget \\
 && mkdir /prometheus && chown 65534:65534 /prometheus
ENTRYPOINT ["/usr/bin/prometheus"]
"""


@pytest.fixture(scope="module")
def undisturbed(stack: Stack, figures: dict[str, str]) -> list[str]:
    """The texts of BATCH when nothing happens meanwhile."""
    begun = time.monotonic()
    texts = Load(stack, BATCH).texts()
    figures["96 texts of 400 tokens"] = f"{time.monotonic() - begun:.1f} s"
    assert len(texts) == 96
    assert len(set(texts)) > 90
    return texts


def test_compose_takes_every_way_to_start(stack: Stack) -> None:
    stack.compose("--profile", "monitoring", "config", "--quiet")
    stack.compose("-f", "docker-compose.yml", "-f", "compose.gpu.yaml", "config", "--quiet")


def test_images_are_small(engine: Engine, stack: Stack, figures: dict[str, str]) -> None:
    sizes = {
        name: int(engine.inspect("image", name)["Size"]) for name in ("inkwell-gateway", "inkwell-worker")
    }  # type: ignore[call-overload]
    for name, size in sizes.items():
        figures[f"image {name}"] = f"{size / 1e6:.0f} MB"
    assert sizes["inkwell-gateway"] < 200e6
    assert sizes["inkwell-worker"] < 1.5e9


def test_every_model_answers_through_the_gateway_and_a_seed_is_kept(stack: Stack) -> None:
    ready = httpx.get(f"{stack.url}/ready", trust_env=False).json()
    assert sorted(ready["models"]) == ["names", "prose"]
    for model in ("prose", "names"):
        body = {"model": model, "inputs": "The", "parameters": {"max_new_tokens": 30, "seed": 3}}
        assert stack.text(**body) == stack.text(**body)


@pytest.mark.parametrize("service", ["worker", "gateway"])
def test_container_has_neither_root_nor_capabilities_nor_a_writable_root(stack: Stack, service: str) -> None:
    status = stack.inside(service, "cat", "/proc/1/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == ["10001"] * 4
    assert {fields[name] for name in ("CapEff", "CapPrm", "CapBnd")} == {"0" * 16}
    assert fields["NoNewPrivs"] == "1"
    assert fields["Name"] == "tini"
    for folder in ("/", "/opt/inkwell", "/etc"):
        assert "Read-only file system" in stack.inside(service, "touch", f"{folder}/new")
    assert stack.inside(service, "touch", "/tmp/new") == ""


def test_models_cannot_be_changed_from_within(stack: Stack) -> None:
    assert "Read-only file system" in stack.inside("worker", "touch", "/models/new")


def test_archives_that_the_container_may_not_read_are_named(stack: Stack) -> None:
    index = stack.store / "index.json"
    index.chmod(0o600)
    try:
        said = stack.compose("run", "--rm", "--no-deps", "--no-TTY", "worker", check=False)
    finally:
        index.chmod(0o644)
    assert "error: /models/index.json: cannot be read by user 10001" in said
    assert "Traceback" not in said


def test_torchserve_is_not_published_and_its_network_has_no_way_out(stack: Stack) -> None:
    assert not any(stack.container("worker")["NetworkSettings"]["Ports"].values())
    published = stack.container("gateway")["NetworkSettings"]["Ports"]
    assert published == {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(stack.port)}]}
    mirror = socket.gethostbyname(urlsplit(MIRROR).hostname or "")
    code = f"import socket; s = socket.socket(); s.settimeout(5); print(s.connect_ex(('{mirror}', 80)))"
    assert int(stack.inside("gateway", "python", "-c", code)) == 0
    assert int(stack.inside("worker", "python", "-c", code)) in (
        errno.EAGAIN,
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
    )


def test_killed_torchserve_comes_back_and_nothing_is_lost(
    stack: Stack, undisturbed: list[str], figures: dict[str, str]
) -> None:
    restarts = stack.container("worker")["RestartCount"]
    load = Load(stack, BATCH)
    stack.kill("worker", "org.pytorch.serve.ModelServer")
    begun = time.monotonic()
    assert load.runs, "the batch was over before the kill"
    until(lambda: stack.container("worker")["RestartCount"] == restarts + 1, "the container starts again")
    assert load.texts() == undisturbed
    until(lambda: stack.is_healthy("worker"), "the worker is healthy again")
    figures["killed container healthy again"] = f"{time.monotonic() - begun:.1f} s"
    assert stack.metric("inkwell_retries_total") > 0


def test_killed_model_process_comes_back_within_its_container(stack: Stack, undisturbed: list[str]) -> None:
    restarts = stack.container("worker")["RestartCount"]
    load = Load(stack, BATCH)
    name = stack.compose("ps", "--quiet", "worker").strip()
    lines = stack.engine.run("docker", "top", name, "-eo", "pid,args").stdout
    for port in ("9000", "9001"):
        assert f"--port {port}" in lines
        stack.kill("worker", f"--port {port}")
    assert load.runs, "the batch was over before the kill"
    assert load.texts() == undisturbed
    assert stack.container("worker")["RestartCount"] == restarts
    until(
        lambda: "every model is ready" in stack.inside("worker", "python", "-m", "deploy.worker", "health"),
        "ready",
    )


def test_restarted_worker_is_waited_for(stack: Stack, undisturbed: list[str]) -> None:
    load = Load(stack, BATCH)
    stack.compose("restart", "worker")
    assert load.texts() == undisturbed


def test_stopped_gateway_ends_its_work_first(stack: Stack, undisturbed: list[str]) -> None:
    load = Load(stack, BATCH)
    assert load.runs
    stack.compose("stop", "gateway")
    assert load.texts() == undisturbed
    assert stack.container("gateway")["State"]["ExitCode"] in (0, 143)
    stack.compose("up", "--detach", "--wait", "--no-build")
    assert stack.text(model="names", inputs="") is not None


def test_prometheus_scrapes_gateway_and_torchserve(stack: Stack, engine: Engine) -> None:
    name = "inkwell-proof-prometheus"
    # The published image cannot be had without a registry; Debian's Prometheus reads the same configuration.
    engine.run("docker", "build", "--network", "host", "--tag", name, "-", input=PROMETHEUS)
    stack.environment["INKWELL_PROMETHEUS_IMAGE"] = name
    stack.compose("--profile", "monitoring", "up", "--detach", "--wait", "--no-build", "prometheus")
    assert stack.text(model="names", inputs="") is not None

    def ask(path: str) -> Any:
        code = f"import urllib.request as r; print(r.urlopen('http://prometheus:9090/api/v1/{path}').read().decode())"
        return httpx.Response(200, text=stack.inside("gateway", "python", "-c", code)).json()["data"]

    until(
        lambda: (
            {t["labels"]["job"]: t["health"] for t in ask("targets")["activeTargets"]}
            == {"inkwell": "up", "torchserve": "up"}
        ),
        "both targets are up",
    )
    until(lambda: ask("query?query=sum(inkwell_generated_tokens_total)")["result"], "tokens are counted")
    assert ask("query?query=ts_inference_requests_total")["result"]

    def health_of_rules() -> dict[str, str]:
        return {rule["name"]: rule["health"] for group in ask("rules")["groups"] for rule in group["rules"]}

    assert "InkwellGatewayDown" in health_of_rules()
    until(
        lambda: set(health_of_rules().values()) == {"ok"}, "every alert rule was evaluated without an error"
    )
    stack.compose("--profile", "monitoring", "rm", "--force", "--stop", "--volumes", "prometheus")


# As the cluster runs them, but without a network of the engine's own: it has none but those of the project.
ALONE = (
    *("docker", "run", "--rm", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges"),
)


def build(engine: Engine, name: str, context: Path, figures: dict[str, str]) -> None:
    file = ROOT / "deploy/docker" / f"Dockerfile.{name.removeprefix('inkwell-')}"
    engine.run("docker", "build", "--network", "host", "--tag", name, "--file", file, context)
    figures[f"image {name}"] = f"{int(engine.inspect('image', name)['Size']) / 1e6:.0f} MB"  # type: ignore[call-overload]


def test_the_tools_image_trains_and_posts(
    stack: Stack, engine: Engine, tmp_path: Path, figures: dict[str, str]
) -> None:
    build(engine, "inkwell-tools", ROOT, figures)
    assert "10001" in engine.run(*ALONE, "--network", "none", "inkwell-tools", "id", "-u").stdout
    bundles = tmp_path / "bundles"
    bundles.mkdir()
    bundles.chmod(0o777)
    # Parts of a run find each other by the names of their machines, which no network would not know.
    network = next(iter(stack.container("gateway")["NetworkSettings"]["Networks"]))
    engine.run(
        *(*ALONE, "--network", network, "--volume", f"{bundles}:/bundles", "--workdir", "/bundles"),
        "inkwell-tools",
        *("python", "-m", "torch.distributed.run", "--nproc-per-node", "1", "-m", "training"),
        *("train", "names", "--out", "/bundles/names", "--set", "fit.steps=3"),
        timeout=PATIENCE_S,
    )
    assert load_bundle(bundles / "names").config.name == "names"
    posted = engine.run(
        *(*ALONE, "--network", network, "--env", "INKWELL_URL=http://gateway:8000"),
        *("--env", "INKWELL_POST_HISTORY=/tmp/posts.sqlite", "inkwell-tools"),
        *("python", "-m", "training", "post", "--to", "stdout", "--model", "prose"),
    )
    assert posted.stdout.strip()


def test_the_models_image_brings_its_archives(
    stack: Stack, engine: Engine, tmp_path: Path, figures: dict[str, str]
) -> None:
    build(engine, "inkwell-models", stack.folder, figures)
    brought = tmp_path / "models"
    brought.mkdir()
    brought.chmod(0o777)
    served = stack.folder / "models.toml"
    engine.run(
        *(*ALONE, "--network", "none", "--volume", f"{brought}:/models"),
        *("--volume", f"{served}:/etc/inkwell/models.toml:ro"),
        *("--env", "INKWELL_MODELS_FILE=/etc/inkwell/models.toml", "inkwell-models"),
    )
    for file in ("index.json", "prose.mar", "names.mar"):
        assert (brought / file).read_bytes() == (stack.store / file).read_bytes()


def test_make_down_ends_the_work_in_hand_and_leaves_nothing(
    stack: Stack, engine: Engine, undisturbed: list[str]
) -> None:
    load = Load(stack, BATCH)
    stack.down()
    assert load.texts() == undisturbed
    assert engine.run("docker", "ps", "--all", "--quiet").stdout == ""
    networks = engine.run("docker", "network", "ls", "--format", "{{.Name}}").stdout.split()
    assert sorted(networks) == ["host", "none"]
