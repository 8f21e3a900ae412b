"""How TorchServe is configured, started, asked how it is, and understood when it fails."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

import httpx

from deploy.errors import StartError
from deploy.java import Java
from deploy.plan import Placement
from deploy.ports import Port

HOST = "127.0.0.1"
_TEMPLATES = Path(__file__).resolve().parent / "torchserve"
_LOG_CONFIG = _TEMPLATES / "log4j2.xml"
_MAIN_CLASS = "org.pytorch.serve.ModelServer"
_OPTION = "--worker-port"


@dataclass(frozen=True)
class Ports:
    """TorchServe's five ports, from `first` on."""

    first: int

    @property
    def inference(self) -> int:
        return self.first

    @property
    def management(self) -> int:
        return self.first + 1

    @property
    def metrics(self) -> int:
        return self.first + 2

    def all(self, host: str) -> list[Port]:
        """Every port with what it is for."""
        purposes = ("inference", "management", "metrics", "gRPC inference", "gRPC management")
        return [
            Port(host, self.first + n, f"TorchServe {purpose}", _OPTION) for n, purpose in enumerate(purposes)
        ]


def render_config(
    host: str,
    ports: Ports,
    store: Path,
    folders: Mapping[str, Sequence[str]],
    gpus: int,
    model_api: bool = False,
) -> str:
    """The text of config.properties; `folders` maps a model to its workers' folders in `store`. `model_api`
    lets models be registered while it runs."""
    template = Template((_TEMPLATES / "config.properties").read_text(encoding="utf-8"))
    return template.substitute(
        host=host,
        inference_port=ports.inference,
        management_port=ports.management,
        metrics_port=ports.metrics,
        grpc_inference_port=ports.first + 3,
        grpc_management_port=ports.first + 4,
        # A backslash escapes in a properties file.
        model_store=str(store.resolve()).replace("\\", "\\\\"),
        load_models=",".join(f"{model}={folder}" for model, held in folders.items() for folder in held),
        number_of_gpu=gpus,
        model_api=str(model_api).lower(),
    )


def command(java: Java, config: Path, store: Path, scratch: Path) -> list[str]:
    """The JVM that the `torchserve` script would start, without that script's pid file in a shared folder."""
    spec = importlib.util.find_spec("ts")
    if spec is None or not spec.submodule_search_locations:
        raise StartError("TorchServe is not installed here. Install it with `make install`.")
    package = Path(next(iter(spec.submodule_search_locations)))
    return [
        str(java.path),
        f"-Dmodel_server_home={package.parent}",
        f"-Dlog4j.configurationFile=file://{_LOG_CONFIG}",
        f"-Djava.io.tmpdir={scratch}",
        "-Xmx512m",
        # It only passes bytes on. The optimising compiler and a collector with threads of its own would take more
        # processor time from the workers than they ever save.
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        "-cp",
        str(package / "frontend" / "*"),
        _MAIN_CLASS,
        "--python",
        sys.executable,
        "-f",
        str(config),
        "-s",
        str(store.resolve()),
        "-ncs",
    ]


@dataclass(frozen=True)
class WorkerCount:
    """What TorchServe reports of one model; `known` is False while it has not registered it."""

    known: bool
    ready: int


def workers(client: httpx.Client, ports: Ports, model: str) -> WorkerCount:
    """Ready workers of `model`. An unreachable TorchServe counts as knowing nothing."""
    try:
        answer = client.get(f"http://{HOST}:{ports.management}/models/{model}/all")
    except httpx.TransportError:
        return WorkerCount(False, 0)
    if answer.status_code != httpx.codes.OK:
        return WorkerCount(False, 0)
    listed = [worker for version in answer.json() for worker in version.get("workers", [])]
    return WorkerCount(True, sum(worker["status"] == "READY" for worker in listed))


def differences(client: httpx.Client, ports: Ports, placement: Placement) -> list[str]:
    """Where TorchServe's own report of a model departs from its placement, in words."""
    report = client.get(f"http://{HOST}:{ports.management}/models/{placement.model}/all").json()
    workers = [worker for version in report for worker in version.get("workers", [])]
    on_gpu = sum(bool(worker.get("gpu")) for worker in workers)
    reported: Mapping[str, tuple[object, object]] = {
        "workers": (len(workers), placement.workers),
        "workers on a GPU": (on_gpu, placement.workers if placement.device == "gpu" else 0),
        "continuousBatching": (all(version.get("continuousBatching") for version in report), True),
        "deviceIds": (
            sorted({device for version in report for device in version.get("deviceIds") or ()}),
            sorted(placement.device_ids),
        ),
    }
    return [
        f"{placement.model}: TorchServe reports {what} = {found!r}; the plan says {wanted!r}"
        for what, (found, wanted) in reported.items()
        if found != wanted
    ]


def deaths(log_dir: Path, model: str, version: str) -> int:
    """How often a worker of `model` has died in this run, by the model log."""
    return sum("Backend worker process died" in line for line in _worker_lines(log_dir, model, version))


def cause(log_dir: Path, unpacked: Path, model: str, version: str) -> str:
    """Why the workers of `model` die: the last error they printed, or the true one behind a masked import."""
    lines = _worker_lines(log_dir, model, version)
    errors = [line for line in lines if re.match(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt)\b", line)]
    last = errors[-1] if errors else (lines[-1] if lines else "it printed nothing")
    if "ts.torch_handler" in last:
        return probe_import(unpacked) or last
    return last


def probe_import(unpacked: Path) -> str | None:
    """Import an unpacked archive's handler in a process of its own; the error it ends with, None if it works.

    TorchServe reports every ImportError inside a handler as a missing `ts.torch_handler.NAME`.
    """
    manifest = json.loads((unpacked / "MAR-INF" / "MANIFEST.json").read_text(encoding="utf-8"))
    module = str(manifest["model"]["handler"]).split(":")[0].removesuffix(".py").split("/")[-1]
    code = "import sys, importlib; sys.path.insert(0, sys.argv[1]); importlib.import_module(sys.argv[2])"
    answer = subprocess.run(
        [sys.executable, "-c", code, str(unpacked), module],
        cwd=unpacked,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    printed = answer.stderr.strip().splitlines()
    return printed[-1] if answer.returncode and printed else None


def registration_error(log_dir: Path, model: str) -> str | None:
    """Why TorchServe would not register `model` at all, by its own log."""
    lines = _read(log_dir / "ts_log.log")
    for number, line in enumerate(lines):
        if re.search(rf"Failed to load model: {re.escape(model)}(\.w\d+)?$", line):
            following = lines[number + 1].strip() if number + 1 < len(lines) else ""
            return following or line.strip()
    return None


def set_aside_logs(log_dir: Path) -> None:
    """Keep the logs of the run before as *.previous, so that what is read now belongs to this run."""
    for name in ("ts_log.log", "model_log.log", "torchserve.log", "gateway.log"):
        path = log_dir / name
        if path.exists():
            shutil.move(path, path.with_suffix(".previous"))


def tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log, for an error message."""
    return "\n".join(_read(path)[-lines:])


def _worker_lines(log_dir: Path, model: str, version: str) -> list[str]:
    """What workers of `model` printed, without the log's own prefix."""
    thread = rf"W-\d+-{re.escape(model)}_{re.escape(version)}(-w\d+)?-std(out|err)"
    pattern = re.compile(rf"^\S+ \[\w+ *\] {thread} MODEL_LOG - (?P<text>.*)$")
    matches = (pattern.match(line) for line in _read(log_dir / "model_log.log"))
    return [match["text"] for match in matches if match]


def _read(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
