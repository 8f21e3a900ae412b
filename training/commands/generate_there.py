"""Texts from a running gateway."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import typer

from inkwell.client import Answer, AsyncClient, Client, Retries


class There:
    """A running gateway in the place of an engine."""

    def __init__(self, url: str, model: str, api_key: str | None) -> None:
        self._url, self._model, self._key = url, model, api_key
        # Nobody at a terminal waits minutes to hear of a wrong address.
        with Client(url, api_key=api_key, retries=Retries(deadline=5)) as client:
            client.info(model)

    def categories(self) -> tuple[str, ...]:
        with Client(self._url, api_key=self._key) as client:
            return next((m.categories for m in client.models() if m.id == self._model), ())

    def answer(self, prompt: str, count: int, options: dict[str, Any], as_json: bool) -> None:
        """`count` texts; a single one is shown as it comes. A search gives its `count` best."""
        if (options.get("num_beams") or 1) != 1:
            self._search(prompt, count, options, as_json)
        elif count == 1 and not as_json:
            self.stream(prompt, options)
        else:
            asyncio.run(self._draw(prompt, count, options, as_json))

    def stream(self, prompt: str, options: dict[str, Any]) -> None:
        """Show one text as it comes, and then its seed. The seed word is known only at the end."""
        with (
            Client(self._url, api_key=self._key) as client,
            client.stream(prompt or None, model=self._model, **_named(options)) as tokens,
        ):
            typer.secho(prompt, bold=True, nl=False)
            for token in tokens:
                typer.echo(token.text, nl=False)
            typer.echo()
            if (answer := tokens.answer) is not None:
                word = "" if answer.seed_word is None else f", after the seed word {answer.seed_word!r}"
                typer.secho(f"seed {answer.seed}{word}", dim=True, err=True)

    def _search(self, prompt: str, count: int, options: dict[str, Any], as_json: bool) -> None:
        settings = {**options, "n": count, "return_full_text": not as_json}
        with Client(self._url, api_key=self._key) as client:
            for answer in client.generate_many(prompt or None, model=self._model, **_named(settings)):
                typer.echo(_line(prompt, answer) if as_json else answer.text)

    async def _draw(self, prompt: str, count: int, options: dict[str, Any], as_json: bool) -> None:
        """Texts with seeds seed, seed + 1, …, asked for in parallel and shown in order."""
        room = asyncio.Semaphore(64)

        async def one(client: AsyncClient, index: int) -> Answer:
            seed = options["seed"]
            settings = {**options, "seed": seed + index if isinstance(seed, int) else seed}
            if not as_json:
                settings["return_full_text"] = True
            async with room:
                return await client.generate(prompt or None, model=self._model, **_named(settings))

        async with AsyncClient(self._url, api_key=self._key) as client:
            asked = [asyncio.ensure_future(one(client, index)) for index in range(count)]
            try:
                for waiting in asked:
                    answer = await waiting
                    typer.echo(_line(prompt, answer) if as_json else answer.text)
            finally:
                for waiting in asked:
                    waiting.cancel()
                await asyncio.gather(*asked, return_exceptions=True)


def _named(options: dict[str, Any]) -> Any:
    # Any, for the type checker: what `--set` names is known to the client only, which refuses the rest.
    return options


def _line(prompt: str, answer: Answer) -> str:
    found = {
        "seed": answer.seed,
        "prompt": prompt or answer.seed_word or "",
        "seed_word": answer.seed_word,
        "category": answer.category,
        "generated_text": answer.text,
        "finish_reason": answer.finish_reason,
        "generated_tokens": answer.generated_tokens,
    }
    details = answer.raw.get("details") or {}
    found |= {name: details[name] for name in ("score", "characters") if name in details}
    return json.dumps(found, ensure_ascii=False)
