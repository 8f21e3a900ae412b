"""The command-line verbs `inkwell serve`, `inkwell stop` and `inkwell plan`, for the program to register."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from deploy import inventory, settings, supervisor
from deploy.errors import ArchiveError, DeployError, OptionError
from deploy.models_file import ModelsFileError, load
from deploy.plan import PlanRefusedError
from deploy.plan import plan as make_plan
from deploy.plan_views import explain, render_model_config
from deploy.preparation import previous_plan
from deploy.store import read_index

RunDir = Annotated[Path | None, typer.Option(help="Where the run keeps its state. [default: run]")]
ModelsFileOption = Annotated[
    Path | None, typer.Option("--models-file", help="What to serve, and where. [default: deploy/models.toml]")
]
ModelStore = Annotated[
    Path | None, typer.Option("--model-store", help="The folder of archives. [default: model_store]")
]


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Errors that are meant for people, without a traceback and with their own exit code."""
    try:
        yield
    except DeployError as error:
        Console(stderr=True).print(
            f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True
        )
        raise typer.Exit(error.exit_code) from None


def serve(
    detach: Annotated[
        bool, typer.Option("--detach", help="Return once it is ready; it goes on behind.")
    ] = False,
    port: Annotated[int | None, typer.Option(help="Where the gateway listens. [default: 8000]")] = None,
    host: Annotated[str | None, typer.Option(help="On which address. [default: 127.0.0.1]")] = None,
    worker_port: Annotated[
        int | None, typer.Option(help="First of TorchServe's five ports. [default: 8080]")
    ] = None,
    models: Annotated[str | None, typer.Option(help="Only these, as in: prose,names. [default: all]")] = None,
    models_file: ModelsFileOption = None,
    model_store: ModelStore = None,
    run_dir: RunDir = None,
    log_dir: Annotated[Path | None, typer.Option(help="Where logs go. [default: logs]")] = None,
) -> None:
    """Start TorchServe and the gateway, and wait until every model answers.

    Ctrl-C finishes what is in hand and stops both. Examples:

      inkwell serve

      inkwell serve --detach --port 9000 --models prose,names

    Exit codes: 0 stopped in order, 2 bad option, 3 runs already, 4 port taken, 5 no Java, 6 disk full,
    7 archive missing or changed, 8 a model does not load, 9 TorchServe or the gateway did not come up.
    """
    with _plain_errors():
        chosen = (
            tuple(name.strip() for name in models.split(",") if name.strip()) if models is not None else None
        )
        if chosen == ():
            raise OptionError(f"--models {models!r}: must name at least one model")
        options = settings.from_environment().changed(
            port=port,
            host=host,
            worker_port=worker_port,
            models=chosen,
            models_file=models_file,
            model_store=model_store,
            run_dir=run_dir,
            log_dir=log_dir,
        )
        raise typer.Exit(supervisor.serve(options, detach=detach))


def stop(run_dir: RunDir = None) -> None:
    """Stop what `inkwell serve` started, and leave no process behind.

    Example:

      inkwell stop
    """
    with _plain_errors():
        raise typer.Exit(supervisor.stop(settings.from_environment().changed(run_dir=run_dir)))


def plan(
    gpus: Annotated[int | None, typer.Option(help="Plan for so many GPUs. [default: those present]")] = None,
    gpu_memory: Annotated[str, typer.Option(help="Memory of each, with --gpus.")] = "80G",
    models_file: ModelsFileOption = None,
    model_store: ModelStore = None,
    run_dir: RunDir = None,
    render: Annotated[
        str | None, typer.Option(help="Print one model's model-config.yaml instead of the table.")
    ] = None,
) -> None:
    """Show which model runs on which GPU or CPU, and why not elsewhere.

    Without --gpus it looks at this machine and starts from the plan of the last run. Examples:

      inkwell plan

      inkwell plan --gpus 4 --gpu-memory 80G

      inkwell plan --render prose
    """
    with _plain_errors():
        options = settings.from_environment().changed(
            models_file=models_file, model_store=model_store, run_dir=run_dir
        )
        try:
            wanted = load(options.models_file)
            here = inventory.detect(options.visible_devices)
            machine = (
                here if gpus is None else inventory.described(gpus, gpu_memory, here.cpus, here.memory_mb)
            )
            before = previous_plan(options.run_dir) if gpus is None else None
            made = make_plan(wanted, machine, _estimates(options), before)
        except (ModelsFileError, inventory.InventoryError) as error:
            raise OptionError(str(error)) from error
        except PlanRefusedError as error:
            raise OptionError("no plan is possible:\n" + "\n".join(error.reasons)) from error
        if render is None:
            Console().print(explain(made))
        elif render in made.placements:
            typer.echo(render_model_config(made.placements[render]), nl=False)
        else:
            raise OptionError(f"--render {render!r}: must be one of {', '.join(made.placements)}")


def _estimates(options: settings.Options) -> dict[str, int]:
    """Memory by the archives that exist; a model without one is planned with an assumption."""
    if not (options.model_store / "index.json").exists():
        return {}
    try:
        index = read_index(options.model_store)
    except ArchiveError as error:
        raise OptionError(str(error)) from error
    return {entry.model: entry.memory_mb for entry in index.values() if entry.memory_mb is not None}


def register(app: typer.Typer) -> None:
    """Add the three verbs to `app`."""
    verbs: tuple[Callable[..., None], ...] = (serve, stop, plan)
    for verb in verbs:
        app.command()(verb)
