"""TorchServe and the gateway as two child processes, and what they say of themselves."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import httpx

from deploy import torchserve_server as torchserve
from deploy.errors import ModelLoadError, StartError
from deploy.ports import exposed
from deploy.preparation import Prepared
from deploy.processes import MARK, Child
from deploy.settings import Options, child_environment
from deploy.state import State

_JVM_GRACE_S = 10.0
# Beyond the gateway's own limit for work in hand, before it is killed.
_GATEWAY_GRACE_S = 5.0
# A worker that dies once may have met a passing lack of memory; one that dies twice has a reason.
_DEATHS = 2


class Service:
    """One run. All methods are called from one thread."""

    def __init__(self, options: Options, prepared: Prepared, run: State) -> None:
        self._options = options
        self._prepared = prepared
        self._ports = torchserve.Ports(options.worker_port)
        self._client = httpx.Client(timeout=5.0, trust_env=False)
        self._placements = prepared.plan.placements
        logs = options.log_dir.resolve()
        here = options.run_dir.resolve()
        self._torchserve = Child(
            "TorchServe",
            torchserve.command(prepared.java, prepared.config, prepared.store, Path(run.scratch)),
            child_environment(
                **{
                    MARK: run.run_id,
                    "LOG_LOCATION": str(logs),
                    "METRICS_LOCATION": str(logs),
                    "TMPDIR": run.scratch,
                }
            ),
            here,
            logs / "torchserve.log",
        )
        self._gateway = Child(
            "the gateway",
            [sys.executable, "-m", options.gateway_module],
            _gateway_environment(options, prepared, run),
            here,
            logs / "gateway.log",
        )

    def start(self) -> None:
        """Start both processes. Raises `StartError` when one cannot even be started."""
        for child in (self._torchserve, self._gateway):
            try:
                child.start()
            except OSError as error:
                raise StartError(f"{child.name} cannot be started: {error}") from error

    def ready_workers(self) -> dict[str, list[int]]:
        """Model -> [ready workers, wanted workers]."""
        return {
            name: [torchserve.workers(self._client, self._ports, name).ready, placement.workers]
            for name, placement in self._placements.items()
        }

    def gateway_answers(self) -> bool:
        """Whether the gateway says that every model is ready."""
        try:
            return self._client.get(f"{self._options.url}/ready").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def is_ready(self) -> bool:
        """Every worker of every model is ready, and the gateway sees it."""
        return (
            all(ready >= wanted for ready, wanted in self.ready_workers().values()) and self.gateway_answers()
        )

    def raise_if_failed(self, *, timed_out: bool) -> None:
        """Raise what stands in the way: a process that ended, a model that will not load, the time."""
        for child in (self._torchserve, self._gateway):
            code = child.exit_code()
            if code is not None:
                end = torchserve.tail(child.log)
                raise StartError(f"{child.name} ended with code {code}. The end of {child.log}:\n{end}")
        for name in self._placements:
            self._raise_if_model_failed(name)
        if timed_out:
            raise StartError(
                f"not ready after {self._options.startup_s:g} s: {self._waiting_for()}\n"
                f"Give it longer with INKWELL_STARTUP_S, and see {self._options.log_dir}."
            )

    def _waiting_for(self) -> str:
        counts = self.ready_workers().items()
        short = [f"{name} has {have} of {want} workers ready" for name, (have, want) in counts if have < want]
        if short:
            return "; ".join(short)
        log = self._gateway.log
        return f"{self._options.url}/ready does not answer 200. The end of {log}:\n{torchserve.tail(log)}"

    def _raise_if_model_failed(self, model: str) -> None:
        logs, version = self._options.log_dir, self._prepared.versions[model]
        reason = torchserve.registration_error(logs, model)
        if reason is None and torchserve.deaths(logs, model, version) >= _DEATHS:
            reason = torchserve.cause(logs, self._prepared.unpacked(model), model, version)
        if reason is not None:
            raise ModelLoadError(
                f"the model {model!r} does not load: {reason}\n"
                f"All that its worker printed is in {logs / 'model_log.log'}. Build its archive again with "
                f"`inkwell archive {model}`, or serve the others with --models."
            )

    def raise_if_exposed(self) -> None:
        """Raise `StartError` when TorchServe listens where other machines reach it, whatever its settings say:
        who reaches its management port makes it run code."""
        if found := exposed(self._torchserve.pid):
            raise StartError(
                f"TorchServe listens on {', '.join(found)}, which other machines can reach. Only loopback is "
                "allowed here; look for settings of TorchServe's own in the environment (TS_…)."
            )

    def differences(self) -> list[str]:
        """Where TorchServe's report departs from the plan."""
        return [
            difference
            for placement in self._placements.values()
            for difference in torchserve.differences(self._client, self._ports, placement)
        ]

    def revive_the_dead(self) -> list[str]:
        """Start again whichever process has died, after its back-off; the names of those started now."""
        return [child.name for child in (self._torchserve, self._gateway) if child.revive()]

    def end(self, hurry: Callable[[], bool]) -> None:
        """Let the gateway finish, then end TorchServe, which drops whatever it has in hand."""
        self._gateway.end(self._options.drain_s + _GATEWAY_GRACE_S, hurry)
        self._torchserve.end(_JVM_GRACE_S, hurry)
        self._client.close()


def _gateway_environment(options: Options, prepared: Prepared, run: State) -> dict[str, str]:
    ports = torchserve.Ports(options.worker_port)
    # The gateway runs in the run folder, so a relative path would not be found there.
    keys = {} if options.key_file is None else {"INKWELL_KEY_FILE": str(options.key_file.resolve())}
    return child_environment(
        **keys,
        **{
            MARK: run.run_id,
            "INKWELL_HOST": options.host,
            "INKWELL_PORT": str(options.port),
            "INKWELL_MODELS_FILE": str(prepared.models_path),
            "INKWELL_INFERENCE": f"http://{torchserve.HOST}:{ports.inference}",
            "INKWELL_MANAGEMENT": f"http://{torchserve.HOST}:{ports.management}",
            "INKWELL_DRAIN_S": str(options.drain_s),
            "INKWELL_MODEL_STORE": str(options.model_store.resolve()),
            "INKWELL_WORKER_STORE": str(prepared.store),
        },
    )
