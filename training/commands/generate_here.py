"""Texts from a bundle in this process."""

from __future__ import annotations

import json
from typing import Any

import typer

from inkwell.errors import InvalidJob
from inkwell.session import Event, TextEngine

_MOST_ROWS = 64


def rows_for(count: int, options: dict[str, Any]) -> int:
    """Rows that an engine needs for `count` texts at a time, or for as many as are sensible."""
    beams, guidance = options.get("num_beams"), options.get("guidance")
    searched = beams if type(beams) is int and beams > 1 else 1
    rows = searched * (1 if guidance in (None, 1) else 2)
    return max(rows, min(rows * (1 if searched > 1 else count), _MOST_ROWS))


class Here:
    """One engine for what a command asks."""

    def __init__(self, engine: TextEngine) -> None:
        self._engine = engine

    def answer(self, prompt: str, count: int, options: dict[str, Any], as_json: bool) -> None:
        """`count` texts; a single one is shown as it comes. A search gives its `count` best."""
        if count == 1 and not as_json:
            self.stream(prompt, options)
        elif (options.get("num_beams") or 1) != 1:
            self._search(prompt, count, options, as_json)
        else:
            self._draw(prompt, count, options, as_json)

    def stream(self, prompt: str, options: dict[str, Any]) -> None:
        """Show one text as it comes, byte for byte, and then its seed, which is not part of the output."""
        seed = None
        for event in self._engine.generate({**options, "prompt": prompt}):
            _raise_error([event])
            if event["event"] == "start":
                seed = event["seed"]
                typer.secho(event["prompt"], bold=True, nl=False)
            elif event["event"] == "tokens":
                typer.echo("".join(event["texts"]), nl=False)
            elif event["event"] == "end":
                typer.echo(event.get("tail", ""))
        typer.secho(f"seed {seed}", dim=True, err=True)

    def _draw(self, prompt: str, count: int, options: dict[str, Any], as_json: bool) -> None:
        """Texts with seeds seed, seed + 1, …, all at once."""
        sinks: list[list[Event]] = []
        for index in range(count):
            seed = options["seed"]
            job = {
                **options,
                "id": str(index),
                "prompt": prompt,
                "seed": seed + index if isinstance(seed, int) else seed,
            }
            sinks.append([])
            self._engine.submit(job, sinks[-1])
            _raise_error(sinks[-1])
        while not self._engine.idle:
            self._engine.advance()
        for events in sinks:
            _show(events[0], events[-1], as_json)

    def _search(self, prompt: str, count: int, options: dict[str, Any], as_json: bool) -> None:
        """The best texts of one search, the best first."""
        job = {**options, "prompt": prompt, "num_return_sequences": count}
        events = list(self._engine.generate(job))
        _raise_error(events)
        for beam in events[-1].get("beams", [events[-1]]):
            _show(events[0], beam, as_json)


def _show(start: Event, end: Event, as_json: bool) -> None:
    if not as_json:
        typer.echo(start["prompt"] + end["text"])
        return
    answer = {name: start[name] for name in ("seed", "prompt", "seed_word", "category")} | {
        "generated_text": end["text"],
        "finish_reason": end["finish_reason"],
        "generated_tokens": end["generated_tokens"],
    }
    answer |= {name: end[name] for name in ("score", "characters") if name in end}
    typer.echo(json.dumps(answer, ensure_ascii=False))


def _raise_error(events: list[Event]) -> None:
    for event in events:
        if event["event"] == "error":
            field = event.get("field", "job")
            raise InvalidJob(field, event["error"].removeprefix(f"{field} "))
