"""Tokens per second of the engine, sampling included, against the loop that tutorials show.

The other side is what a stock handler does: the fp32 module called with one token per row, then softmax, top-k
and `torch.multinomial`. Both sides have the same weights, rows and number of tokens. Weights are random:
speed does not depend on them.

    inkwell bench engine [--rounds 5] [--tokens 64] [--threads 2] [--only lstm]
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from typing import Any, cast

import torch
from measure import console, interleaved, machine, show

from inkwell.engine import Engine, Request
from inkwell.models import build_model
from inkwell.models.base import LanguageModel
from inkwell.models.recurrent import RecurrentModel
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
}


def ours(model: LanguageModel, rows: int, tokens: int, top_k: int) -> Callable[[], object]:
    engine = Engine(model.decoder(), model.vocabulary, slots=64)

    def run() -> None:
        for row in range(rows):
            sampling = SamplingParams(seed=row, temperature=0.8, top_k=top_k)
            engine.submit(Request(str(row), (1,), sampling, tokens, stops_at_end=False))
        while not engine.idle:
            engine.step()

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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="models whose name holds this")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    lines: list[tuple[object, ...]] = []
    for name, settings in MODELS.items():
        if options.only not in name:
            continue
        model = build_model(settings).eval()
        top_k = 50 if settings["vocabulary"] > 100 else 20
        for rows in (1, 8, 64):
            sides = {
                "inkwell": ours(model, rows, options.tokens, top_k),
                "tutorial": tutorial(model, rows, options.tokens, top_k),
            }
            times = interleaved(sides, options.rounds)
            speed = {side: rows * options.tokens / timing.median for side, timing in times.items()}
            lines.append(
                (
                    name,
                    rows,
                    f"{speed['inkwell']:,.0f}",
                    f"{speed['tutorial']:,.0f}",
                    f"{speed['inkwell'] / speed['tutorial']:.1f}x",
                    f"±{times['inkwell'].spread:.0%}",
                )
            )
    console.print(machine(), highlight=False)
    show(
        "Decoding with sampling",
        ("model", "rows", "inkwell tok/s", "tutorial tok/s", "ratio", "spread"),
        lines,
    )


if __name__ == "__main__":
    main()
