"""Everything that can go wrong before a process is started, checked first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from deploy import inventory, java, ports, store
from deploy.errors import DeployError, DiskFullError, OptionError
from deploy.java import Java
from deploy.models_file import ModelsFile, ModelsFileError, chosen, dumps, load
from deploy.plan import Placement, Plan, PlanRefusedError, plan
from deploy.plan_views import render_model_config
from deploy.settings import Options
from deploy.torchserve_server import Ports, render_config, set_aside_logs

PLAN_FILE = "plan.json"


@dataclass(frozen=True)
class Prepared:
    """A run that can start: every path exists and was checked."""

    models_file: ModelsFile
    plan: Plan
    versions: dict[str, str]
    java: Java
    config: Path
    store: Path
    models_path: Path

    def unpacked(self, model: str) -> Path:
        """The folder that TorchServe loads `model` from."""
        return self.store / model


def prepare(options: Options, console: Console, *, gateway: bool = True) -> Prepared:
    """Check ports, Java, archives and disk; plan; write what the servers read at their start.

    `gateway` tells whether a gateway starts here too. Raises `DeployError` with what is wrong and what to do.
    """
    models_file = _models(options)
    if gateway and not ports.is_loopback(options.worker_host):
        raise OptionError(
            f"worker_host = {options.worker_host!r}: other machines could reach TorchServe's management port, and "
            "with it make this one run code. Leave it at 127.0.0.1; only the worker's container, on a private "
            "network, takes another."
        )
    torchserve = Ports(options.worker_port)
    own = [ports.Port(options.host, options.port, "gateway", "--port")] if gateway else []
    ports.check([*own, *torchserve.all(options.worker_host)])
    found_java = java.find(options.java_home)

    index = store.read_index(options.model_store)
    archives = {
        name: store.verify(options.model_store, index, entry.archive, name)
        for name, entry in models_file.models.items()
    }
    _make_folders(options)
    store.check_room(options.run_dir, list(archives.values()))

    estimates = {name: a.entry.memory_mb for name, a in archives.items() if a.entry.memory_mb is not None}
    placed = plan_for(options, models_file, estimates)
    for warning in placed.warnings:
        console.print(f"warning: {warning}", style="yellow")

    set_aside_logs(options.log_dir)
    unpacked = options.run_dir.resolve() / "store"
    config = options.run_dir.resolve() / "config.properties"
    models_path = options.run_dir.resolve() / "models.toml"
    try:
        folders = {
            name: store.unpack(archive, unpacked, _worker_configs(placed.placements[name]))
            for name, archive in archives.items()
        }
        config.write_text(
            render_config(
                options.worker_host,
                torchserve,
                unpacked,
                folders,
                len(placed.inventory.gpus),
                model_api=options.key_file is not None,
            ),
            encoding="utf-8",
        )
        models_path.write_text(dumps(models_file), encoding="utf-8")
        (options.run_dir / PLAN_FILE).write_text(placed.to_json(), encoding="utf-8")
    except OSError as error:
        raise DiskFullError(f"{options.run_dir}: cannot be written: {error.strerror}") from error
    versions = {name: archive.entry.version for name, archive in archives.items()}
    return Prepared(models_file, placed, versions, found_java, config, unpacked, models_path)


def plan_for(options: Options, models_file: ModelsFile, estimates: dict[str, int]) -> Plan:
    """The plan for this machine, near to the one of the run before."""
    machine = inventory.detect(options.visible_devices)
    try:
        return plan(models_file, machine, estimates, previous_plan(options.run_dir))
    except PlanRefusedError as error:
        raise OptionError("\n".join(error.reasons)) from error


def previous_plan(run_dir: Path) -> Plan | None:
    """The plan of the run before; None when there was none or its file is of another version."""
    try:
        return Plan.from_json((run_dir / PLAN_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _worker_configs(placement: Placement) -> list[str]:
    return [render_model_config(placement, worker) for worker in range(placement.workers)]


def _models(options: Options) -> ModelsFile:
    try:
        models_file = load(options.models_file)
        return chosen(models_file, options.models) if options.models else models_file
    except ModelsFileError as error:
        raise OptionError(str(error)) from error


def _make_folders(options: Options) -> None:
    for folder in (options.run_dir, options.log_dir):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DeployError(f"{folder}: cannot be made: {error.strerror}") from error
