"""A conversation at the terminal: prompts and settings, until `quit` or the end of input."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from rich.console import Console

from inkwell.errors import InkwellError

console = Console()
_NAMES = {"temp": "temperature", "len": "max_new_tokens", "length": "max_new_tokens"}
_NUMBERS = ("temperature", "max_new_tokens", "seed", "top_p", "top_k", "min_p")
_HELP = "commands: temp X, len X, seed X, top_p X, top_k X, category X, again, help, quit"


def converse(
    name: str,
    categories: tuple[str, ...],
    show: Callable[[str, dict[str, Any]], None],
    options: dict[str, Any],
) -> None:
    """Ask for prompts and `show` what comes of each; `options` are changed by commands."""
    console.print(f"{name}: type a prompt, or nothing for a seed word. {_HELP}", style="dim")
    last = ""
    while True:
        try:
            line = console.input("[bold cyan]› [/]")
        except (EOFError, KeyboardInterrupt):
            console.print()
            return
        if line.strip() in ("quit", "exit", "q"):
            return
        if line.strip() == "help":
            console.print(_HELP, style="dim", highlight=False)
            continue
        if setting := _setting(line, categories):
            options.update(setting)
            for field, value in setting.items():
                console.print(f"{field} is {value}", style="dim", markup=False, highlight=False)
            continue
        last = last if line.strip() == "again" else line
        try:
            show(last, options)
        except InkwellError as error:
            console.print(str(error), style="red", markup=False)
        except KeyboardInterrupt:
            console.print("\nstopped", style="dim")


def _setting(line: str, categories: tuple[str, ...]) -> dict[str, Any] | None:
    """What `temp 0.8` sets; None for a line that only begins like a command, as the prompt "seed corn" does."""
    word, _, text = line.strip().partition(" ")
    name, text = _NAMES.get(word, word), text.strip()
    if name == "category" and text in categories:
        return {name: text}
    if name not in _NUMBERS:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return {name: value} if isinstance(value, (int, float)) else None
