"""What `inkwell serve` shows while it starts and when it is up."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.text import Text

from deploy.preparation import Prepared
from deploy.settings import Options

Show = Callable[[Mapping[str, Sequence[int]], bool], None]


@contextmanager
def progress(console: Console) -> Iterator[Show]:
    """A bar of ready workers; it yields a function of {model: (ready, wanted)} and the gateway's state."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting TorchServe", total=None)

        def show(ready: Mapping[str, Sequence[int]], gateway: bool) -> None:
            waiting = [name for name, (have, want) in ready.items() if have < want]
            text = (
                f"loading {', '.join(waiting)}"
                if waiting
                else ("ready" if gateway else "starting the gateway")
            )
            bar.update(
                task,
                description=text,
                completed=sum(min(have, want) for have, want in ready.values()),
                total=sum(want for _, want in ready.values()),
            )

        yield show


def announce(
    console: Console, options: Options, prepared: Prepared, *, log_dir: Path, detached: bool = False
) -> None:
    """Print where it answers, one line to try, and how to stop; no line is broken, so it can be copied."""
    default = prepared.models_file.models[prepared.models_file.default_model]
    parameters = {"max_new_tokens": min(80, default.max_new_tokens)}
    body = {"model": default.name, "inputs": "", "parameters": parameters}
    curl = f"curl -s {options.url}/generate -H 'content-type: application/json' -d '{json.dumps(body)}'"
    models = ", ".join(
        f"{name} ({'GPU ' + ', '.join(map(str, placement.device_ids)) if placement.device_ids else 'CPU'})"
        for name, placement in prepared.plan.placements.items()
    )
    stop = "`make stop` or `inkwell stop`" if detached else "Ctrl-C, or `make stop` elsewhere"
    console.print(Text.assemble(("Inkwell is ready at ", "bold green"), (options.url, "bold")))
    for label, text in (("models", models), ("try", curl), ("logs", str(log_dir)), ("stop", stop)):
        console.print(Text.assemble((f"  {label:<8}", "dim"), text), soft_wrap=True)
