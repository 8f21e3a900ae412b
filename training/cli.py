"""The command line program `inkwell`. A verb is imported when it is called, so that light ones start at once."""

from __future__ import annotations

import importlib
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from typer.core import TyperGroup

from inkwell import __version__


class Verb(NamedTuple):
    """Where a verb lives, and under which heading `--help` shows it."""

    module: str
    name: str  # of a function, or of a sub-program
    panel: str
    settings: dict[str, Any] | None = None


_ANY_OPTION = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
VERBS = {
    "data": Verb("training.commands.data", "app", "Make"),
    "train": Verb("training.commands.train", "train", "Make"),
    "evaluate": Verb("training.commands.evaluate", "evaluate", "Make"),
    "archive": Verb("training.commands.archive", "archive", "Make"),
    "plan": Verb("deploy.commands", "plan", "Serve"),
    "serve": Verb("deploy.commands", "serve", "Serve"),
    "stop": Verb("deploy.commands", "stop", "Serve"),
    "k8s": Verb("deploy.k8s.commands", "app", "Serve"),
    "generate": Verb("training.commands.generate", "generate", "Serve"),
    "post": Verb("training.commands.post", "app", "Serve"),
    "report": Verb("training.commands.report", "report", "Look"),
    "figures": Verb("training.commands.figures", "figures", "Look"),
    "experiment": Verb("training.commands.experiment", "app", "Look"),
    "bench": Verb("training.commands.bench", "bench", "Look", _ANY_OPTION),
}


class LazyGroup(TyperGroup):
    """Knows its commands by name and imports them one by one."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All verbs, in the order of the table."""
        del ctx
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The verb's command, or None when there is none of this name."""
        del ctx
        verb = VERBS.get(cmd_name)
        return None if verb is None else load(verb, cmd_name)


def load(verb: Verb, name: str) -> Any:
    """Import a verb and make it a command."""
    found = getattr(importlib.import_module(verb.module), verb.name)
    if isinstance(found, typer.Typer):
        command: Any = typer.main.get_command(found)
    else:
        single = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
        single.command(name, context_settings=verb.settings)(found)
        command = typer.main.get_command(single)
    command.name, command.rich_help_panel = name, verb.panel
    return command


app = typer.Typer(
    name="inkwell",
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        Console().print(f"inkwell {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Train small creative text models and serve them behind one HTTP API."""


def main() -> None:
    """Entry point of the console script."""
    app()
