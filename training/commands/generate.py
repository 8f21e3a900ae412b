"""`inkwell generate`: text without any server, or from a running one."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from inkwell.bundle import open_bundle
from inkwell.session import TextEngine
from training.bot.settings import BotSettings
from training.commands.common import device_named, find_model, plain_errors, served_runtime
from training.commands.generate_here import Here, rows_for
from training.commands.generate_talk import converse
from training.commands.generate_there import There
from training.errors import UserError

_HOW, _WHAT = "How it is chosen", "What it says"


@plain_errors
def generate(
    model: Annotated[str, typer.Argument(help="A model's name, bundle directory or .mar archive.")],
    prompt: Annotated[
        str, typer.Argument(help="What the text begins with; empty: a seed word is chosen.")
    ] = "",
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many texts.")] = 1,
    max_new_tokens: Annotated[int | None, typer.Option("--length", "-l", help="Most tokens of each.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same text.")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", "-t", rich_help_panel=_HOW)] = None,
    top_k: Annotated[int | None, typer.Option(rich_help_panel=_HOW)] = None,
    top_p: Annotated[float | None, typer.Option(rich_help_panel=_HOW)] = None,
    min_p: Annotated[float | None, typer.Option(rich_help_panel=_HOW)] = None,
    repetition_penalty: Annotated[float | None, typer.Option(rich_help_panel=_HOW)] = None,
    num_beams: Annotated[
        int | None, typer.Option(rich_help_panel=_HOW, help="Search for the likeliest text; 2 to 16 beams.")
    ] = None,
    length_penalty: Annotated[
        float | None, typer.Option(rich_help_panel=_HOW, help="Of a search; above 1 for longer texts.")
    ] = None,
    category: Annotated[
        str | None,
        typer.Option("--category", "-c", rich_help_panel=_WHAT, help="For models that have categories."),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(rich_help_panel=_WHAT, help="How much the category counts; 1 is its natural weight."),
    ] = None,
    stop: Annotated[
        list[str] | None, typer.Option(rich_help_panel=_WHAT, help="The text ends before this; repeatable.")
    ] = None,
    character: Annotated[
        list[str] | None,
        typer.Option(rich_help_panel=_WHAT, help="A name of the story, which has no others; repeatable."),
    ] = None,
    opening: Annotated[
        str | None, typer.Option(rich_help_panel=_WHAT, help="What the story begins with.")
    ] = None,
    ending: Annotated[
        str | None, typer.Option(rich_help_panel=_WHAT, help="The story's last sentence.")
    ] = None,
    require: Annotated[
        list[str] | None, typer.Option(rich_help_panel=_WHAT, help="A word it must say; repeatable.")
    ] = None,
    forbid: Annotated[
        list[str] | None, typer.Option(rich_help_panel=_WHAT, help="A word it must not say; repeatable.")
    ] = None,
    forbid_loops: Annotated[
        int | None, typer.Option(rich_help_panel=_WHAT, help="No run of so many words comes twice.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any parameter of a request, as JSON: min_chars=40"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per text.")] = False,
    interactive: Annotated[
        bool, typer.Option("--interactive", "-i", help="Ask for prompts until told to quit.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "cpu",
    runtime: Annotated[
        str | None,
        typer.Option(help="auto, torch, native or onnx. [default: what models.toml says of it, else auto]"),
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Ask the gateway there instead; its key: INKWELL_API_KEY.")
    ] = None,
) -> None:
    """Write text with a trained model, here and now or through a running gateway. Examples:

      inkwell generate prose "The harbour" --length 300

      inkwell generate names --category Elf --guidance 2 -n 10

      inkwell generate model_store/souls.mar "Sword" --seed 7 --json

      inkwell generate stories --character Mia --character Tom --ending "They all went home."

      inkwell generate stories "Once upon a time" --num-beams 4 --forbid-loops 4

      inkwell generate stories --interactive

      inkwell generate --url http://127.0.0.1:8000 names -n 100 --category Elf

    Exit codes: 0 done, 2 bad option, 3 bad model or parameter, or no answer.
    """
    options: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "seed": seed,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "num_beams": num_beams,
        "length_penalty": length_penalty,
        "category": category,
        "guidance": guidance,
        "stop": stop or None,
        "characters": character or None,
        "opening": opening,
        "ending": ending,
        "required_words": require or None,
        "forbidden_words": forbid or None,
        "forbid_loops": forbid_loops,
    }
    for item in set_ or []:
        name, equals, value = item.partition("=")
        if not equals:
            raise UserError(f"--set {item!r} must look like min_p=0.05")
        options[name] = _value(value)
    if url is not None:
        key = BotSettings.from_env().api_key
        there = There(url, model, None if key is None else key.reveal())
        if interactive:
            converse(model, there.categories(), there.stream, options)
        else:
            there.answer(prompt, count, options, as_json)
        return
    bundle = open_bundle(find_model(model), device_named(device))
    runs_on = runtime or served_runtime(bundle.config.name)
    here = Here(TextEngine(bundle, slots=rows_for(count, options), runtime=runs_on))
    if interactive:
        converse(bundle.config.name, bundle.categories, here.stream, options)
    else:
        here.answer(prompt, count, options, as_json)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
