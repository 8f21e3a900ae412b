"""How sure a model is: the most likely next tokens after several beginnings."""

from __future__ import annotations

from typing import Any

import torch

from inkwell.bundle import Bundle
from inkwell.tokenizer import END_ID
from training.figures.album import BLUE, VERMILION, Album, canvas, visible
from training.figures.inside import read, write

TOP = 20
CONTEXTS = 4


def contexts(bundle: Bundle, seed: int, prompt: str = "") -> list[tuple[list[int], int]]:
    """Beginnings to continue: the given one or the bare start, and three cuts of what the model writes itself,
    each with its category."""
    opening = bundle.tokenizer.encode(bundle.config.start) or [END_ID]
    first = [*opening, *bundle.tokenizer.encode(prompt)]
    found = [(first, 0)]
    for number in range(1, CONTEXTS):
        ids, _, category = write(bundle, prompt, 60, seed + number)
        body = max(len(opening) + 1, len(ids) - 1)
        found.append((ids[: len(opening) + max(1, (body - len(opening)) * number // CONTEXTS)], category))
    return found


def draw(bundle: Bundle, album: Album, seed: int, prompt: str = "") -> None:
    """confidence.png, .svg, .csv"""
    figure, axes = canvas(11.0, 6.4, 2, 2)
    rows: list[tuple[Any, ...]] = []
    for place, (ids, category) in zip(axes.flat, contexts(bundle, seed, prompt), strict=True):
        reading = read(bundle, ids, category)
        shares = reading.logits[-1].double().softmax(-1)
        values, tokens = shares.topk(min(TOP, len(shares)))
        names = [visible(bundle.tokenizer.decode([token])) for token in tokens.tolist()]
        place.bar(range(len(names)), values.tolist(), color=[VERMILION, *[BLUE] * (len(names) - 1)])
        place.set_xticks(range(len(names)), names, fontsize=7, rotation=90 if max(map(len, names)) > 2 else 0)
        text = bundle.tokenizer.decode(ids)
        shown = "the very beginning" if not text.strip() else f"“…{visible(text[-34:])}”"
        entropy = float(reading.entropy[-1])
        place.set_title(f"after {shown}", fontsize=9)
        place.annotate(
            f"doubt {entropy:.2f} nats: like {torch.tensor(entropy).exp():.1f} equal choices\n"
            f"top token {values[0]:.0%}, top ten {values[:10].sum():.0%}",
            (0.98, 0.95),
            xycoords="axes fraction",
            ha="right",
            va="top",
            fontsize=8,
        )
        place.set_ylabel("probability")
        rows.extend(
            (text, rank, token, name, value, entropy)
            for rank, (token, name, value) in enumerate(
                zip(tokens.tolist(), names, values.tolist(), strict=True)
            )
        )
    figure.suptitle(f"{bundle.config.name}: the {min(TOP, bundle.model.vocabulary)} likeliest next tokens")
    album.save("confidence", figure)
    album.table("confidence", ["context", "rank", "id", "token", "probability", "entropy_nats"], rows)
