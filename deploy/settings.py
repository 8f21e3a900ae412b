"""Every setting of `inkwell serve`; the one file of `deploy` that reads the environment."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from deploy.errors import OptionError

_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Options:
    """What to serve, where, and with which limits. Times are in seconds.

    TorchServe takes the five ports from `worker_port` on: inference, management, metrics and two for gRPC.
    Its `worker_host` is loopback unless a private network, as that of a container, stands in for it.
    `models` chooses some of the models file; empty means all. With a `key_file` there can be admin keys, and
    only then may models be registered while TorchServe runs.
    """

    models_file: Path = _HERE / "models.toml"
    model_store: Path = Path("model_store")
    run_dir: Path = Path("run")
    log_dir: Path = Path("logs")
    models: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    worker_host: str = "127.0.0.1"
    worker_port: int = 8080
    java_home: str | None = None
    visible_devices: str | None = None
    startup_s: float = 300.0
    drain_s: float = 30.0
    gateway_module: str = "api"
    key_file: Path | None = None

    def __post_init__(self) -> None:
        for name, value, highest in (("port", self.port, 65535), ("worker_port", self.worker_port, 65531)):
            if not 1 <= value <= highest:
                raise OptionError(f"{name} = {value!r}: must be a whole number from 1 to {highest}")
        if self.worker_port <= self.port <= self.worker_port + 4:
            raise OptionError(
                f"port = {self.port}: lies among TorchServe's ports, {self.worker_port} to "
                f"{self.worker_port + 4}; change it with --port, or theirs with --worker-port"
            )
        for name, seconds in (("startup_s", self.startup_s), ("drain_s", self.drain_s)):
            if not seconds >= 0:
                raise OptionError(f"{name} = {seconds!r}: must be 0 or more seconds")

    def changed(self, **values: Any) -> Options:
        """These options with the `values` that are not None."""
        return replace(self, **{name: value for name, value in values.items() if value is not None})

    def to_json(self) -> str:
        """These options as text that `from_json` reads back, paths made absolute."""
        values = asdict(self)
        for name, value in values.items():
            if isinstance(value, Path):
                values[name] = str(value.resolve())
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str) -> Options:
        """Options that `to_json` wrote."""
        values = json.loads(text)
        for name in ("models_file", "model_store", "run_dir", "log_dir", "key_file"):
            values[name] = None if values[name] is None else Path(values[name])
        return cls(**values | {"models": tuple(values["models"])})

    @property
    def url(self) -> str:
        """Where the gateway answers, as a client on this machine would write it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)  # noqa: S104 - not a bind
        return f"http://{host}:{self.port}"


_FROM_ENVIRONMENT: Mapping[str, tuple[str, type]] = {
    "INKWELL_MODELS_FILE": ("models_file", Path),
    "INKWELL_MODEL_STORE": ("model_store", Path),
    "INKWELL_RUN_DIR": ("run_dir", Path),
    "INKWELL_LOG_DIR": ("log_dir", Path),
    "INKWELL_HOST": ("host", str),
    "INKWELL_PORT": ("port", int),
    "INKWELL_WORKER_HOST": ("worker_host", str),
    "INKWELL_WORKER_PORT": ("worker_port", int),
    "INKWELL_KEY_FILE": ("key_file", Path),
    "INKWELL_STARTUP_S": ("startup_s", float),
    "INKWELL_DRAIN_S": ("drain_s", float),
    "JAVA_HOME": ("java_home", str),
    "CUDA_VISIBLE_DEVICES": ("visible_devices", str),
}


def from_environment(environment: Mapping[str, str] | None = None) -> Options:
    """Options from the environment (this process's when None). Raises `OptionError` for a bad value."""
    source = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    for variable, (field, kind) in _FROM_ENVIRONMENT.items():
        if variable not in source or (source[variable] == "" and field != "visible_devices"):
            continue
        try:
            values[field] = kind(source[variable])
        except ValueError:
            raise OptionError(f"{variable} = {source[variable]!r}: must be a number") from None
    return Options(**values)


def child_environment(**values: str) -> dict[str, str]:
    """The environment for a process that Inkwell starts: this one's, and `values` over it."""
    return dict(os.environ) | values
