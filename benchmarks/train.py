"""Tokens per second of training: the loop of `inkwell train` against the loop that tutorials show.

Ours is the real `training.loop.Trainer`, with its warm-up, clipping, carried state and watch over the gradients.
The tutorials' is a module of torch's own parts (nn.LSTM, nn.GRU, a minimal nanoGPT), AdamW and one loop over the
same windows, of 64 x 100, 16 x 64, 8 x 128 and 12 x 64 tokens. The two take turns, `--steps` times the shape's own
number of steps each, within one run of the trainer, so that optimiser and carried state go on as in real training.
Text and weights are random: speed does not depend on them.

In float32, and in bf16 autocast where the processor has instructions for it. `--compile` adds the tutorials'
transformer through `torch.compile` (half a minute more for each).

    inkwell bench train [--threads 2] [--rounds 5] [--steps 1] [--only lstm] [--compile] [--cpu-time]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import JSON_HELP, Figure, Timing, clock_of, console, note, record, show
from torch import Tensor, nn
from tutorials.training import NanoGPT, Recurrent, loop

from inkwell.models import build_model
from training.batches import StreamWindows
from training.device import has_bf16
from training.loop import Trainer
from training.progress import Progress
from training.recipe import FitRecipe

OURS = "inkwell"


@dataclass(frozen=True)
class Shape:
    """A model's settings, the windows it is trained on, and the steps of one round."""

    model: dict[str, Any]
    batch: int
    length: int
    steps: int

    @property
    def tokens(self) -> int:
        """Of one step."""
        return self.batch * self.length


SHAPES = {
    "lstm 2x512": Shape(
        {"architecture": "recurrent", "cell": "lstm", "hidden": 512, "layers": 2, "vocabulary": 90},
        64,
        100,
        1,
    ),
    "gru 3x1024": Shape(
        {
            "architecture": "recurrent",
            "cell": "gru",
            "hidden": 1024,
            "layers": 3,
            "embedding": 512,
            "vocabulary": 4000,
        },
        16,
        64,
        1,
    ),
    "gpt 6x384": Shape(
        {"architecture": "gpt", "layers": 6, "heads": 6, "width": 384, "window": 128, "vocabulary": 4000},
        8,
        128,
        1,
    ),
    "nanoGPT on a CPU": Shape(
        {"architecture": "gpt", "layers": 4, "heads": 4, "width": 128, "window": 64, "vocabulary": 65},
        12,
        64,
        10,
    ),
}


class Enough(Exception):  # noqa: N818  raised by a callback to end a training run that has been measured
    """All rounds have been taken."""


def stream(shape: Shape) -> StreamWindows:
    """Random text, long enough for some hundred steps."""
    ids = np.random.default_rng(1).integers(1, shape.model["vocabulary"], 100 * shape.tokens + 1)
    return StreamWindows(ids, shape.batch, shape.length, "none", 1)


def endless(windows: StreamWindows) -> Iterator[tuple[Tensor, Tensor]]:
    epoch = 0
    while True:
        for batch in windows.epoch(epoch):
            yield batch.ids, batch.targets
        epoch += 1


def tutorial(shape: Shape) -> nn.Module:
    """The same model in torch's own parts."""
    model = shape.model
    if model["architecture"] == "gpt":
        return NanoGPT(model["vocabulary"], model["layers"], model["heads"], model["width"], shape.length)
    size = model.get("embedding") or model["hidden"]
    return Recurrent(model["cell"], model["vocabulary"], size, model["hidden"], model["layers"])


def in_turns(
    shape: Shape,
    bf16: bool,
    others: dict[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float],
) -> dict[str, Timing]:
    """Rounds of our loop and of `others` in turn, after one of each that does not count. The others run in the
    trainer's callback, while it waits between two steps."""
    times: dict[str, list[float]] = {OURS: [], **{name: [] for name in others}}
    began = clock()

    def between(progress: Progress) -> None:
        nonlocal began
        if progress.step % shape.steps:
            return
        times[OURS].append(clock() - began)
        for name, run in others.items():
            started = clock()
            run()
            times[name].append(clock() - started)
        if len(times[OURS]) > rounds:
            raise Enough
        began = clock()

    many = (rounds + 1) * shape.steps + 1
    fit = FitRecipe(
        steps=many,
        batch=shape.batch,
        length=shape.length,
        evaluate_every=many,
        precision="bf16" if bf16 else "fp32",
    )
    try:
        Trainer(build_model(shape.model), fit, stream(shape), None, callback=between).run()
    except Enough:
        return {name: Timing(tuple(seconds[1:])) for name, seconds in times.items()}
    raise AssertionError("the run ended before its rounds had been taken")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1, help="times as many steps in each round")
    parser.add_argument("--only", default="", help="shapes whose name holds this")
    parser.add_argument("--compile", action="store_true", help="the tutorials' transformer compiled, too")
    parser.add_argument("--cpu-time", action="store_true", help="only with --threads 1")
    parser.add_argument("--json", type=Path, help=JSON_HELP)
    options = parser.parse_args(arguments)
    for name in ("threads", "rounds", "steps"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} {getattr(options, name)}: 1 or more is allowed")
    chosen = {name: shape for name, shape in SHAPES.items() if options.only in name}
    if not chosen:
        parser.error(f"--only {options.only!r}: no shape is named so; there are {'; '.join(SHAPES)}")
    clock = clock_of(options)
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    precisions = [False, True] if has_bf16(torch.device("cpu")) else [False]
    figures: list[Figure] = []
    lines: list[tuple[object, ...]] = []
    for name, shape in chosen.items():
        shape = replace(shape, steps=shape.steps * options.steps)
        for bf16 in precisions:
            found = measured(name, shape, bf16, options, clock)
            figures += found
            lines += table(shape, found)
    console.print(note(options.rounds, options.cpu_time), highlight=False)
    if len(precisions) == 1:
        console.print(
            "this processor has no bf16 instructions: float32 only", style="yellow", highlight=False
        )
    headings = ("shape", "side", "M parameters", "ms per step", "tokens/s", f"{OURS} ÷ side", "spread")
    show("Training", headings, lines)
    record(options.json, "train", figures, options)


def measured(
    name: str, shape: Shape, bf16: bool, options: argparse.Namespace, clock: Callable[[], float]
) -> list[Figure]:
    """All sides of one shape in one precision."""
    windows = endless(stream(shape))
    sides = {"tutorial": loop(tutorial(shape), windows, shape.steps, bf16, False)}
    if options.compile and shape.model["architecture"] == "gpt":
        sides["tutorial, compiled"] = loop(tutorial(shape), windows, shape.steps, bf16, True)
    times = in_turns(shape, bf16, sides, options.rounds, clock)
    what = f"{name}, {'bf16' if bf16 else 'fp32'}"
    return [
        Figure(what, side, timing.seconds, shape.tokens * shape.steps, "token")
        for side, timing in times.items()
    ]


def table(shape: Shape, figures: Sequence[Figure]) -> list[tuple[object, ...]]:
    """A line for each side of one shape, ours first."""
    ours, theirs = build_model(shape.model), tutorial(shape)
    timings = {figure.side: Timing(figure.seconds) for figure in figures}
    lines: list[tuple[object, ...]] = []
    for figure in figures:
        timing = timings[figure.side]
        module = ours if figure.side == OURS else theirs
        lines.append(
            (
                figure.what,
                figure.side,
                f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.2f}",
                f"{timing.median / shape.steps * 1e3:,.1f}",
                f"{figure.work / timing.median:,.0f}",
                f"{timing.median / timings[OURS].median:.2f}",
                f"±{timing.spread:.0%}",
            )
        )
    return lines


if __name__ == "__main__":
    main()
