"""The Makefile, the constraints, the images and the compose file hold what they promise."""

from __future__ import annotations

import ast
import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "deploy" / "docker"
PROMISED = set(
    re.split(
        r"\s+",
        "help install train archive serve stop test test-slow test-e2e check coverage bench gpu-plan up down clean",
    )
)


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def names(path: Path) -> set[str]:
    lines = [line.split(";")[0].split("==")[0].strip() for line in path.read_text().splitlines()]
    return {line.lower().replace("_", "-") for line in lines if line and not line.startswith("#")}


def test_help_lists_every_target_with_one_line() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", makefile, re.MULTILINE))
    listed = dict(re.findall(r"^  (\S+) +(\S.*)$", make("help").stdout, re.MULTILINE))
    assert targets >= PROMISED
    assert set(listed) == targets


def test_plain_make_is_help() -> None:
    assert make().stdout == make("help").stdout


def test_second_install_has_nothing_to_do(tmp_path: Path) -> None:
    stamp = tmp_path / "env" / ".installed"
    stamp.parent.mkdir()
    assert "pip install" in make("--dry-run", "install", f"VENV={tmp_path}/env").stdout
    stamp.touch()
    assert "pip install" not in make("--dry-run", "install", f"VENV={tmp_path}/env").stdout


def test_wrong_python_is_refused_with_a_sentence(tmp_path: Path) -> None:
    script = (ROOT / "deploy" / "check_python.py").read_text()
    patched = script.replace("import sys", "import sys\nsys.version_info = (3, 9, 1)", 1)
    answer = subprocess.run(
        [sys.executable, "-c", patched], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert answer.returncode == 1
    assert "needs Python 3.10 to 3.13" in answer.stderr
    assert "PYTHON=" in answer.stderr
    right = subprocess.run([sys.executable, str(ROOT / "deploy" / "check_python.py")], check=False)
    assert right.returncode == 0


def test_constraints_pin_every_dependency_exactly_and_torch_without_a_local_tag() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    pinned = names(ROOT / "constraints.txt")
    for requirement in wanted:
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        assert name is not None
        if name[0] == "inkwell":  # our own extras, listed beside
            continue
        assert name[0].lower().replace("_", "-") in pinned, requirement
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.match(r"[A-Za-z0-9._-]+==[^+;\s]+(; .+)?$", line) for line in lines)
    assert "torch==2.13.0" in lines


def test_images_install_only_what_is_pinned() -> None:
    pinned = names(ROOT / "constraints.txt")
    for image in ("gateway", "worker"):
        assert names(DOCKER / f"{image}.txt") <= pinned
    assert "torch" not in names(DOCKER / "gateway.txt")


def imported(folder: Path) -> set[str]:
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module.split(".")[0])
    return found


def test_gateway_image_installs_all_that_the_gateway_imports() -> None:
    modules = {name.replace("-", "_") for name in names(DOCKER / "gateway.txt")}
    # Starlette is FastAPI's foundation; the distributions named opentelemetry-… share one module.
    known = modules | {"api", "deploy", "starlette", "opentelemetry"} | set(sys.stdlib_module_names)
    assert imported(ROOT / "api") <= known
    copied = (DOCKER / "Dockerfile.gateway").read_text()
    used = {
        f"deploy/{alias.name}.py" if node.module == "deploy" else f"{str(node.module).replace('.', '/')}.py"
        for path in (ROOT / "api").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "deploy"
        for alias in node.names
    }
    assert used
    assert all(path in copied for path in used)


@pytest.mark.parametrize("image", ["gateway", "worker"])
def test_image_runs_without_root_under_an_init_and_is_fed_by_what_docker_may_see(image: str) -> None:
    text = (DOCKER / f"Dockerfile.{image}").read_text()
    assert text.splitlines()[0].startswith("FROM debian:bookworm-slim")
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    assert '"/usr/bin/tini", "--"' in text
    assert "HEALTHCHECK" in text
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists()
            assert any(source == root or source.startswith(f"{root}/") for root in allowed), source


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


def test_containers_are_hardened_and_limited(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["deploy"]["resources"]["limits"]["memory"]
        assert any(mount.startswith("/tmp:") for mount in service["tmpfs"])


def test_only_the_gateway_and_grafana_are_published_and_only_on_loopback(compose: dict[str, Any]) -> None:
    services = compose["services"]
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert set(published) == {"gateway", "grafana"}
    assert services["grafana"]["profiles"] == ["monitoring"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert services["worker"]["networks"] == ["inside"]
    assert compose["networks"]["inside"]["internal"] is True


def test_gateway_waits_for_a_healthy_worker_and_outlives_its_drain(compose: dict[str, Any]) -> None:
    gateway = compose["services"]["gateway"]
    assert gateway["depends_on"]["worker"]["condition"] == "service_healthy"
    grace = int(gateway["stop_grace_period"].removesuffix("s"))
    assert grace > float(gateway["environment"]["INKWELL_DRAIN_S"])
    assert compose["services"]["worker"]["volumes"] == ["./model_store:/models:ro"]


def test_ci_calls_the_targets_that_people_use() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert [line for line in script.read_text().splitlines() if line.startswith("make")] == [
        "make check",
        "make test",
    ]
    if shutil.which("bash"):
        subprocess.run(["bash", "-n", str(script)], check=True)
