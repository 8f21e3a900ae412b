"""Tokens per second of the engine, sampling included, on each runtime, against the loop that tutorials show.

The tutorials' side is what a stock handler does: the fp32 module called with one token per row, then softmax,
top-k and `torch.multinomial`. All sides have the same weights, rows and number of tokens, and take turns. Weights
are random: speed does not depend on them. Where the tutorials' loop, which has no key/value cache, would take
minutes, it is left out.

The second table is one step of each runtime without sampling. A runtime that cannot run here is left out, and what
it lacks is printed.

The third table is the native runtime's step, against what this machine could do: its weights
have to be read once (at the speed measured for reading as many bytes), its int8 products have to be made (at the
speed measured for such products in registers). The slower of the two is the roofline, and the share is of that.

On a machine with other work, `--cpu-time` with one thread counts what this process spent on a processor instead
of what passed on the wall. Other work still takes its share of caches, memory and, between two threads of one core,
of everything.

    inkwell bench engine [--rounds 5] [--tokens 64] [--threads 2] [--only lstm] [--runtimes native torch]
                         [--cpu-time] [--json FILE]
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from measure import JSON_HELP, Figure, clock_of, console, interleaved, note, record, show

from inkwell.engine import Engine, Request
from inkwell.errors import RuntimeUnavailable
from inkwell.models import build_model
from inkwell.models.base import Decoder, LanguageModel
from inkwell.models.recurrent import RecurrentModel
from inkwell.native.library import Library, open_library
from inkwell.running import MOST_STEPS
from inkwell.runtimes import RUNTIMES, make_decoder
from inkwell.sampling import SamplingParams

MODELS: dict[str, dict[str, Any]] = {
    "lstm 2x512, V 90": {
        "architecture": "recurrent",
        "cell": "lstm",
        "hidden": 512,
        "layers": 2,
        "vocabulary": 90,
    },
    "gru 3x1024, V 4000": {
        "architecture": "recurrent",
        "cell": "gru",
        "hidden": 1024,
        "layers": 3,
        "embedding": 512,
        "vocabulary": 4000,
    },
    "rnn 200, V 90": {
        "architecture": "recurrent",
        "cell": "rnn",
        "hidden": 200,
        "layers": 1,
        "vocabulary": 90,
    },
    "names gpt 4x256, V 90": {
        "architecture": "gpt",
        "layers": 4,
        "heads": 4,
        "width": 256,
        "window": 32,
        "vocabulary": 90,
        "categories": 40,
    },
    "gpt 6x384, V 4000": {
        "architecture": "gpt",
        "layers": 6,
        "heads": 6,
        "width": 384,
        "window": 128,
        "vocabulary": 4000,
    },
    "gpt 12x768, V 8000": {
        "architecture": "gpt",
        "layers": 12,
        "heads": 12,
        "width": 768,
        "window": 128,
        "vocabulary": 8000,
    },
    "souls gpt 12x1024, V 8000": {
        "architecture": "gpt",
        "layers": 12,
        "heads": 16,
        "width": 1024,
        "window": 64,
        "activation": "swish",
        "vocabulary": 8000,
    },
}
TOO_MUCH = 1e12
"""Products in one round of the tutorials' loop beyond which it is left out."""


def ours(decoder: Decoder, model: LanguageModel, rows: int, tokens: int, top_k: int) -> Callable[[], object]:
    engine = Engine(decoder, model.vocabulary, slots=64)

    def run() -> None:
        for row in range(rows):
            sampling = SamplingParams(seed=row, temperature=0.8, top_k=top_k)
            engine.submit(Request(str(row), (1,), sampling, tokens, stops_at_end=False))
        while not engine.idle:
            engine.run(MOST_STEPS)  # as many steps in one call as the runtime can make

    return run


def tutorial(model: LanguageModel, rows: int, tokens: int, top_k: int) -> Callable[[], object]:
    """One module call per token, the way the five ancestors and most tutorials generate in a batch."""
    module = copy.deepcopy(model).eval()
    window = cast(int, getattr(module.config, "window", 0))

    @torch.no_grad()
    def run() -> None:
        ids = torch.ones(rows, 1, dtype=torch.long)
        carry: Any = None
        for _ in range(tokens):
            if isinstance(module, RecurrentModel):
                output = module(ids[:, -1:], carry=carry)
                carry = output.carry
            else:
                output = module(ids[:, -window:])  # no cache: the whole window again
            scaled = output.logits[:, -1] / 0.8
            values, places = scaled.topk(min(top_k, scaled.shape[1]))
            chosen = torch.multinomial(values.softmax(-1), 1)
            ids = torch.cat((ids, places.gather(1, chosen)), dim=1)

    return run


def steps(decoder: Decoder, rows: int, tokens: int) -> Callable[[], object]:
    """Steps from the beginning of a text on, without sampling."""
    state = decoder.new_state(rows)
    ids = torch.ones(rows, dtype=torch.long)

    def run() -> None:
        for row in range(rows):
            decoder.admit(state, row, None)
        for _ in range(tokens):
            decoder.step(ids, state)

    return run


def products(model: LanguageModel) -> int:
    """Weights that a step of one row multiplies, which as int8 are as many bytes: all matrices but those that are
    looked up or belong to a category."""
    looked_up = ("embedding.weight", "layers.0.weight_ih_l0", "category.weight", "modulation.weight")
    sizes = {
        name: p.numel() for name, p in model.named_parameters() if p.dim() == 2 and name not in looked_up
    }
    head = cast(torch.nn.Linear, model.head).weight.numel()
    return sum(sizes.values()) + (0 if "head.weight" in sizes else head)


class Machine:
    """What the processor can do at the most, measured with the native library's own loops."""

    def __init__(self, library: Library, threads: int, clock: Callable[[], float]) -> None:
        self._library, self._threads, self._clock = library, threads, clock
        self._path = library.choose(None)

    def products_per_second(self) -> float:
        loops = 2_000_000
        run = self._library.functions.inkwell_spin
        return self._best(lambda: int(run(self._path.encode(), self._threads, loops)))

    def bytes_per_second(self, size: int) -> float:
        data = torch.ones(max(size, 4096), dtype=torch.uint8)
        rounds = max(1, 200_000_000 // len(data))

        def read() -> int:
            self._library.functions.inkwell_read(data.data_ptr(), len(data), self._threads, rounds)
            return rounds * len(data)

        return self._best(read)

    def _best(self, work: Callable[[], int]) -> float:
        """The fastest of five: a peak is what is possible, not what is usual."""
        speeds = []
        for _ in range(5):
            started = self._clock()
            done = work()
            speeds.append(done / (self._clock() - started))
        return max(speeds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="models whose name holds this")
    parser.add_argument("--runtimes", nargs="+", choices=RUNTIMES, default=RUNTIMES, help="only these")
    parser.add_argument("--cpu-time", action="store_true", help="only with --threads 1")
    parser.add_argument("--json", type=Path, help=JSON_HELP)
    options = parser.parse_args()
    clock = clock_of(options)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    runtimes = [name for name in RUNTIMES if name in options.runtimes and available(name)]
    if not runtimes:
        parser.error(f"--runtimes {' '.join(options.runtimes)}: none of them runs here")
    lines: list[tuple[object, ...]] = []
    passes: list[tuple[object, ...]] = []
    roofs: list[tuple[object, ...]] = []
    figures: list[Figure] = []
    peak = Machine(open_library(), options.threads, clock) if "native" in runtimes else None
    most = 0.0 if peak is None else peak.products_per_second()
    for name, settings in MODELS.items():
        if options.only not in name:
            continue
        model = build_model(settings).eval()
        decoders = {runtime: make_decoder(model, runtime)[0] for runtime in runtimes}
        weights = products(model)
        reading = 0.0 if peak is None else peak.bytes_per_second(weights)
        top_k = 50 if settings["vocabulary"] > 100 else 20
        for rows in (1, 8, 64):
            count = options.tokens
            sides = {
                runtime: ours(decoder, model, rows, count, top_k) for runtime, decoder in decoders.items()
            }
            length = 1 if isinstance(model, RecurrentModel) else count / 2
            if weights * rows * count * length < TOO_MUCH:
                sides["tutorial"] = tutorial(model, rows, count, top_k)
            for runtime, decoder in decoders.items():
                sides[f"step of {runtime}"] = steps(decoder, rows, count)
            times = interleaved(sides, options.rounds, clock)
            speed = {side: rows * count / timing.median for side, timing in times.items()}
            step = {runtime: times[f"step of {runtime}"].median / count for runtime in runtimes}
            slowness = (f"{step[side] / step[runtimes[0]]:.1f}x" for side in runtimes[1:])
            figures += [
                Figure(f"{name}, {rows} rows", side, timing.seconds, rows * count, "token")
                for side, timing in times.items()
                if not side.startswith("step of")
            ]
            rest = 1 - step[runtimes[0]] * speed[runtimes[0]] / rows
            passes.append(
                (name, rows, *(f"{step[side] * 1e3:.3f}" for side in runtimes), *slowness, f"{rest:.0%}")
            )
            lines.append(
                (
                    name,
                    rows,
                    *(f"{speed[side]:,.0f}" if side in speed else "–" for side in ("tutorial", *runtimes)),
                    *(ratio(speed, runtimes[0], side) for side in ("tutorial", *runtimes[1:])),
                    f"±{times[runtimes[0]].spread:.0%}",
                )
            )
            if peak is not None:
                roofs.append(roof(name, rows, weights, step["native"], reading, most))
    console.print(note(options.rounds, options.cpu_time), highlight=False)
    if peak is not None:
        console.print(
            f"native: {open_library().paths[0]}, int8 peak {2 * most / 1e9:,.0f} GOP/s", highlight=False
        )
    show(
        "Decoding with sampling, tokens per second",
        (
            *("model", "rows", "tutorial", *runtimes),
            *(f"{runtimes[0]} ÷ {side}" for side in ("tutorial", *runtimes[1:])),
            "spread",
        ),
        lines,
    )
    show(
        "One step without sampling, milliseconds",
        (
            *("model", "rows", *runtimes, *(f"{side} ÷ {runtimes[0]}" for side in runtimes[1:])),
            f"sampling and engine, {runtimes[0]}",
        ),
        passes,
    )
    if roofs:
        show(
            "One step of the native runtime",
            ("model", "rows", "ms", "MB of weights", "GB/s", "of", "GOP/s", "of", "share of roofline"),
            roofs,
        )
    record(options.json, "engine", figures, options)


def available(runtime: str) -> bool:
    try:
        make_decoder(build_model(MODELS["rnn 200, V 90"]).eval(), runtime)
    except RuntimeUnavailable as error:
        console.print(str(error), style="yellow", highlight=False)
        return False
    return True


def ratio(speed: dict[str, float], ours: str, side: str) -> str:
    return f"{speed[ours] / speed[side]:.1f}x" if side in speed else "–"


def roof(
    name: str, rows: int, weights: int, seconds: float, reading: float, most: float
) -> tuple[object, ...]:
    """A line of the second table: what was reached of reading (bytes/s) and of products per second."""
    least = max(weights / reading, weights * rows / most)
    return (
        name,
        rows,
        f"{seconds * 1e3:.3f}",
        f"{weights / 1e6:.1f}",
        f"{weights / seconds / 1e9:.1f}",
        f"{reading / 1e9:.1f}",
        f"{2 * weights * rows / seconds / 1e9:,.0f}",
        f"{2 * most / 1e9:,.0f}",
        f"{least / seconds:.0%}",
    )


if __name__ == "__main__":
    main()
