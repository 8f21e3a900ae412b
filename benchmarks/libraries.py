"""Tokens per second of the same GPT weights in other libraries, with sampling: temperature 0.8 and top-k 50.

Our GPT computes what GPT-NeoX computes, so the weights (random ones: speed does not depend on them) are taken over
one by one. `same tokens` is how many of 16 most likely tokens in a row each library agrees on with ours in float32:
all of them in float32, and fewer where weights are rounded, since random weights make next to no difference between
tokens. The libraries take turns; where 64 tokens would take longer than `--seconds`, fewer are drawn.

llama.cpp is asked over HTTP, as it is used; the others are called in process.

    inkwell bench libraries [--threads 2] [--rounds 5] [--seconds 0.5] [--only "gpt 6"] [--cpu-time]
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from engine import MODELS
from measure import JSON_HELP, Figure, Timing, clock_of, console, interleaved, note, record, show
from others import Generator, Library, Setting, ctranslate, huggingface, llama_cpp

from inkwell.engine import Engine, Request
from inkwell.errors import RuntimeUnavailable
from inkwell.models import build_model
from inkwell.models.gpt import GPTModel
from inkwell.running import MOST_STEPS
from inkwell.runtimes import RUNTIMES, make_decoder
from inkwell.sampling import SamplingParams
from training.device import has_bf16

INSTALL = "in an environment of its own: pip install --editable . -r benchmarks/requirements.txt"
SHAPES = ("gpt 6x384, V 4000", "gpt 12x768, V 8000")
ROWS = (1, 8, 64)
SETTING, GREEDY = Setting(0.8, 50), Setting(0.0, 0)
CHECKED = 16
LEAST = 8
"""Tokens of each text: the most likely ones that are compared, and the fewest that a round draws."""


def random_model(settings: dict[str, Any]) -> GPTModel:
    """Random weights that do not repeat one token: an output of its own, and matrices three times as wide."""
    model = build_model({**settings, "tied": False}).eval()
    if not isinstance(model, GPTModel):
        raise TypeError(f"{settings!r} is no GPT")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0 if parameter.dim() > 1 else 1.0)
    return model


def inkwell(runtime: str, model: GPTModel) -> Generator:
    """Ours, on one runtime."""
    decoder, _ = make_decoder(model, runtime)
    engine = Engine(decoder, model.vocabulary, slots=max(ROWS))

    def generate(rows: int, tokens: int, setting: Setting) -> list[list[int]]:
        texts: list[list[int]] = [[] for _ in range(rows)]
        for row in range(rows):
            sampling = SamplingParams(seed=row, temperature=setting.temperature, top_k=setting.top_k)
            engine.submit(Request(str(row), (1,), sampling, tokens, stops_at_end=False))
        while not engine.idle:
            for emission in engine.run(MOST_STEPS):
                texts[int(emission.request_id)].extend(emission.tokens)
        return texts

    return generate


def libraries() -> dict[str, Library]:
    """All sides, ours first; the fastest of ours is what the others are compared with."""
    found: dict[str, Library] = {f"inkwell {name}": functools.partial(inkwell, name) for name in RUNTIMES}
    found["transformers fp32"] = huggingface.float32
    if has_bf16(torch.device("cpu")):
        found["transformers bf16"] = huggingface.bfloat16
    found["CTranslate2 int8"] = ctranslate.int8
    found["llama.cpp q8_0"] = llama_cpp.q8_0
    return found


def opened(sides: dict[str, Library], model: GPTModel) -> tuple[dict[str, Generator], list[str]]:
    """The sides that run here, and a sentence for each that does not."""
    found, missing = {}, []
    for name, library in sides.items():
        try:
            found[name] = library(model)
        except ImportError as error:
            missing.append(f"{name}: {error.name or error} is not installed; {INSTALL}")
        except RuntimeUnavailable as error:
            missing.append(f"{name}: {error}")
    return found, missing


def agreement(generate: Generator, wanted: Sequence[int]) -> int:
    """How many of the most likely tokens are the same from the first on."""
    [text] = generate(1, len(wanted), GREEDY)
    return next(
        (at for at, pair in enumerate(zip(text, wanted, strict=True)) if pair[0] != pair[1]), len(wanted)
    )


def repeated(generate: Generator, rows: int, tokens: int) -> Callable[[], object]:
    def run() -> None:
        texts = generate(rows, tokens, SETTING)
        if [len(text) for text in texts] != [tokens] * rows:
            raise RuntimeError(
                f"{rows} texts of {tokens} tokens were asked for, and {list(map(len, texts))} came"
            )

    return run


def fitting(generate: Generator, rows: int, most: int, seconds: float, clock: Callable[[], float]) -> int:
    """Tokens of each text that take about `seconds`: `most` at most, LEAST at least."""
    generate(rows, 2, SETTING)
    started = clock()
    generate(rows, LEAST, SETTING)
    each = (clock() - started) / LEAST
    return max(min(LEAST, most), min(most, int(seconds / each)))


def measured(
    name: str, sides: dict[str, Generator], rows: int, options: argparse.Namespace, clock: Callable[[], float]
) -> list[Figure]:
    """All sides at one number of rows."""
    tokens = {side: fitting(sides[side], rows, options.tokens, options.seconds, clock) for side in sides}
    runs = {side: repeated(generate, rows, tokens[side]) for side, generate in sides.items()}
    times = interleaved(runs, options.rounds, clock)
    return [
        Figure(f"{name}, {rows} rows", side, timing.seconds, rows * tokens[side], "token")
        for side, timing in times.items()
    ]


def table(figures: Sequence[Figure], same: dict[str, int]) -> list[tuple[object, ...]]:
    """A line for each side at one number of rows. The first side is ours."""
    speeds = [figure.work / Timing(figure.seconds).median for figure in figures]
    return [
        (
            figure.what,
            figure.side,
            f"{speed:,.0f}",
            f"{speeds[0] / speed:.2f}x",
            f"±{Timing(figure.seconds).spread:.0%}",
            f"{same[figure.side]} of {CHECKED}",
        )
        for figure, speed in zip(figures, speeds, strict=True)
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of one side in one round, at most about")
    parser.add_argument("--tokens", type=int, default=64, help="of each text, at most")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--only", default="", help="models whose name holds this")
    parser.add_argument(
        "--cpu-time", action="store_true", help="only with --threads 1, and without llama.cpp"
    )
    parser.add_argument("--json", type=Path, help=JSON_HELP)
    options = parser.parse_args(arguments)
    shapes = [name for name in SHAPES if options.only in name]
    if not shapes:
        parser.error(f"--only {options.only!r}: no model is named so; there are {'; '.join(SHAPES)}")
    longest = min(MODELS[name]["window"] for name in shapes) - 1
    if not 1 <= options.tokens <= longest:
        parser.error(
            f"--tokens {options.tokens}: 1 to {longest} is allowed, what the window holds beside a prompt"
        )
    if not 1 <= min(options.rows) <= max(options.rows) <= max(ROWS):
        parser.error(f"--rows {' '.join(map(str, options.rows))}: 1 to {max(ROWS)} is allowed")
    clock = clock_of(options)
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    sides = libraries()
    if options.cpu_time:
        del sides["llama.cpp q8_0"]  # its threads are always its own, and some wait in a loop
    figures: list[Figure] = []
    lines: list[tuple[object, ...]] = []
    missing: list[str] = []
    for name in shapes:
        model = random_model(MODELS[name])
        [wanted] = inkwell("torch", model)(1, CHECKED, GREEDY)
        generators, missing = opened(sides, model)
        same = {side: agreement(generate, wanted) for side, generate in generators.items()}
        for rows in options.rows:
            found = measured(name, generators, rows, options, clock)
            figures += found
            lines += table(found, same)
    for sentence in missing:
        console.print(sentence, style="yellow", highlight=False, markup=False, soft_wrap=True)
    console.print(note(options.rounds, options.cpu_time), highlight=False)
    show(
        "The same GPT weights in other libraries, tokens per second",
        ("model", "library", "tokens/s", f"{lines[0][1]} ÷ library", "spread", "same tokens"),
        lines,
    )
    record(options.json, "libraries", figures, options)


if __name__ == "__main__":
    main()
