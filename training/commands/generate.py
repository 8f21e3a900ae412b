"""`inkwell generate`: text without any server, or from a running one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console

from inkwell.bundle import open_bundle
from inkwell.client import Answer, AsyncClient, Client, Retries
from inkwell.errors import InkwellError, InvalidJob
from inkwell.session import TextEngine
from training.bot.settings import BotSettings
from training.commands.common import device_named, find_model, plain_errors
from training.errors import UserError

console = Console()
_NAMES = {"temp": "temperature", "len": "max_new_tokens", "length": "max_new_tokens"}
_NUMBERS = ("temperature", "max_new_tokens", "seed", "top_p", "top_k", "min_p")
_HELP = "commands: temp X, len X, seed X, top_p X, top_k X, category X, again, help, quit"


@plain_errors
def generate(
    model: Annotated[str, typer.Argument(help="A model's name, bundle directory or .mar archive.")],
    prompt: Annotated[
        str, typer.Argument(help="What the text begins with; empty: a seed word is chosen.")
    ] = "",
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many texts.")] = 1,
    max_new_tokens: Annotated[int | None, typer.Option("--length", "-l", help="Most tokens of each.")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", "-t")] = None,
    top_k: Annotated[int | None, typer.Option()] = None,
    top_p: Annotated[float | None, typer.Option()] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same text.")] = None,
    category: Annotated[
        str | None, typer.Option("--category", "-c", help="For models that have categories.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any job field, as JSON: min_p=0.05")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per text.")] = False,
    interactive: Annotated[
        bool, typer.Option("--interactive", "-i", help="Ask for prompts until told to quit.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "cpu",
    url: Annotated[
        str | None, typer.Option(help="Ask the gateway there instead; its key: INKWELL_API_KEY.")
    ] = None,
) -> None:
    """Write text with a trained model, here and now or through a running gateway. Examples:

      inkwell generate prose "The harbour" --length 300

      inkwell generate names --category Elf -n 10

      inkwell generate model_store/souls.mar "Sword" --seed 7 --json

      inkwell generate stories --interactive

      inkwell generate --url http://127.0.0.1:8000 names -n 100 --category Elf

    Exit codes: 0 done, 2 bad option, 3 bad model or parameter, or no answer.
    """
    options: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
        "category": category,
    }
    for item in set_ or []:
        name, equals, value = item.partition("=")
        if not equals:
            raise UserError(f"--set {item!r} must look like min_p=0.05")
        options[name] = _value(value)
    if url is not None:
        key = BotSettings.from_env().api_key
        gateway = _Gateway(url, model, None if key is None else key.reveal())
        if interactive:
            _converse(model, gateway.categories(), gateway.stream, options)
        elif count == 1 and not as_json:
            gateway.stream(prompt, options)
        else:
            gateway.write(prompt, count, options, as_json)
        return
    place = device_named(device)
    engine = TextEngine(open_bundle(find_model(model), place), slots=max(1, min(count, 64)))
    if interactive:

        def show(text: str, settings: dict[str, Any]) -> None:
            _stream(engine, text, settings)

        _converse(engine.bundle.config.name, engine.bundle.categories, show, options)
    else:
        _write(engine, prompt, count, options, as_json)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _write(engine: TextEngine, prompt: str, count: int, options: dict[str, Any], as_json: bool) -> None:
    """Texts with seeds seed, seed + 1, …, all at once; a single one is shown as it comes."""
    if count == 1 and not as_json:
        _stream(engine, prompt, options)
        return
    sinks: list[list[dict[str, Any]]] = []
    for index in range(count):
        seed = options["seed"]
        job = {
            **options,
            "id": str(index),
            "prompt": prompt,
            "seed": seed + index if isinstance(seed, int) else seed,
        }
        sinks.append([])
        engine.submit(job, sinks[-1])
        _raise_error(sinks[-1])
    while not engine.idle:
        engine.advance()
    for events in sinks:
        start, end = events[0], events[-1]
        if as_json:
            keep = ("seed", "prompt", "seed_word", "category")
            answer = {name: start[name] for name in keep} | {
                "generated_text": end["text"],
                "finish_reason": end["finish_reason"],
                "generated_tokens": end["generated_tokens"],
            }
            typer.echo(json.dumps(answer, ensure_ascii=False))
        else:
            typer.echo(start["prompt"] + end["text"])


def _stream(engine: TextEngine, prompt: str, options: dict[str, Any]) -> None:
    """Show one text as it comes, byte for byte, and then its seed, which is not part of the output."""
    seed = None
    for event in engine.generate({**options, "prompt": prompt}):
        _raise_error([event])
        if event["event"] == "start":
            seed = event["seed"]
            typer.secho(event["prompt"], bold=True, nl=False)
        elif event["event"] == "tokens":
            typer.echo("".join(event["texts"]), nl=False)
        elif event["event"] == "end":
            typer.echo(event.get("tail", ""))
    typer.secho(f"seed {seed}", dim=True, err=True)


def _raise_error(events: list[dict[str, Any]]) -> None:
    for event in events:
        if event["event"] == "error":
            field = event.get("field", "job")
            raise InvalidJob(field, event["error"].removeprefix(f"{field} "))


def _converse(
    name: str,
    categories: tuple[str, ...],
    show: Callable[[str, dict[str, Any]], None],
    options: dict[str, Any],
) -> None:
    """Prompts and commands from the terminal, until `quit` or the end of input."""
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
    if name in _NUMBERS and isinstance(value := _value(text), (int, float)):
        return {name: value}
    return None


class _Gateway:
    """A running gateway in the place of an engine."""

    def __init__(self, url: str, model: str, api_key: str | None) -> None:
        self._url, self._model, self._key = url, model, api_key
        # Nobody at a terminal waits minutes to hear of a wrong address.
        with Client(url, api_key=api_key, retries=Retries(deadline=5)) as client:
            client.info(model)

    def categories(self) -> tuple[str, ...]:
        with Client(self._url, api_key=self._key) as client:
            return next((m.categories for m in client.models() if m.id == self._model), ())

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

    def write(self, prompt: str, count: int, options: dict[str, Any], as_json: bool) -> None:
        """Texts with seeds seed, seed + 1, …, asked for in parallel and shown in order."""
        asyncio.run(self._write(prompt, count, options, as_json))

    async def _write(self, prompt: str, count: int, options: dict[str, Any], as_json: bool) -> None:
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
    return json.dumps(found, ensure_ascii=False)
