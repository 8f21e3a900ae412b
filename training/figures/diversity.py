"""Many texts at once: how long they are, how rich, how different from each other and from the training text."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np

from inkwell.bundle import Bundle
from inkwell.tokenizer import END_ID
from training.figures.album import BLUE, GREEN, GREY, ORANGE, VERMILION, Album, canvas, visible
from training.figures.inside import read
from training.figures.samples import Sample, count, sample

SAMPLES = 40
MOST_TOKENS = 120


def draw(bundle: Bundle, album: Album, seed: int, prompt: str = "", samples: int = SAMPLES) -> None:
    """diversity.png, .svg, .csv"""
    options = {"prompt": prompt} if prompt else {}
    found = sample(bundle, samples, seed, MOST_TOKENS, **options)
    figure, axes = canvas(11.0, 6.2, 2, 3)
    lengths = [len(item.text) for item in found]
    ratios = [_type_token(item) for item in found]
    overlaps = _overlaps(bundle, found)
    _lengths(axes[0][0], lengths)
    _tokens(axes[0][1], bundle, found)
    _ratios(axes[0][2], [len(item.ids) for item in found], ratios)
    _figures(axes[1][0], bundle, found)
    _novelty(axes[1][1], overlaps)
    _states(axes[1][2], bundle, found, seed)
    figure.suptitle(f"{bundle.config.name}: {samples} texts with its own settings")
    album.save("diversity", figure)
    album.table(
        "diversity",
        [
            "sample",
            "prompt",
            "text",
            "characters",
            "tokens",
            "type_token",
            "nats_per_token",
            "longest_copy",
            "copied",
        ],
        (
            [n, item.prompt, item.text, length, len(item.ids), ratio, _nats(item), *overlap]
            for n, (item, length, ratio, overlap) in enumerate(
                zip(found, lengths, ratios, overlaps, strict=True)
            )
        ),
    )


def _type_token(item: Sample) -> float:
    ids = [token for token in item.ids if token != END_ID]
    return len(set(ids)) / len(ids) if ids else 0.0


def _nats(item: Sample) -> float:
    return -sum(item.logprobs) / len(item.logprobs) if item.logprobs else math.nan


def _overlaps(bundle: Bundle, found: list[Sample]) -> list[tuple[float, float]]:
    """Longest copied passage in characters and copied share of each text; NaN without an index."""
    index = bundle.load_novelty()
    if index is None:
        return [(math.nan, math.nan)] * len(found)
    checks = [index.check(item.text) for item in found]
    return [(float(overlap.longest), overlap.ratio) for overlap in checks]


def _lengths(place: Any, lengths: list[int]) -> None:
    mean = sum(lengths) / len(lengths)
    place.set_title(f"Lengths, mean {mean:.0f} (cut at {MOST_TOKENS} tokens)")
    place.set_xlabel("characters")
    place.set_ylabel("texts")
    if len(set(lengths)) == 1:
        place.set_xticks([])
        place.set_yticks([])
        place.annotate(
            f"all {len(lengths)} texts have {lengths[0]} characters",
            (0.5, 0.5),
            xycoords="axes fraction",
            ha="center",
        )
        return
    place.hist(lengths, bins=min(20, max(lengths) - min(lengths) + 1), color=BLUE, edgecolor="white")
    place.axvline(mean, color=VERMILION, linestyle="--")


def _ratios(place: Any, lengths: list[int], ratios: list[float]) -> None:
    if len(set(lengths)) > 1:
        place.scatter(lengths, ratios, color=BLUE, s=22, edgecolors="white")
        place.set_ylim(0, 1.05)
        place.set_title("Type–token ratio against length")
        place.set_xlabel("tokens of the text")
        place.set_ylabel("different tokens over all")
    else:  # a stream never ends: all texts were cut at the same length
        place.hist(ratios, bins=12, color=BLUE, edgecolor="white")
        place.set_title(f"Type–token ratio, all {lengths[0]} tokens long")
        place.set_xlabel("different tokens over all")
        place.set_ylabel("texts")


def _tokens(place: Any, bundle: Bundle, found: list[Sample]) -> None:
    counts = Counter(token for item in found for token in item.ids if token != END_ID).most_common(15)
    names = [visible(bundle.tokenizer.decode([token])) for token, _ in counts][::-1]
    place.barh(range(len(names)), [number for _, number in counts][::-1], color=ORANGE)
    place.set_yticks(range(len(names)), names, fontsize=8)
    place.set_title("Most frequent tokens")


def _figures(place: Any, bundle: Bundle, found: list[Sample]) -> None:
    figures = count(bundle, found)
    shown = {
        "different texts": figures.distinct,
        "different triples": figures.distinct_3,
        "repeated 4-grams": figures.repeated,
        "exact copies": figures.exact,
        "copied share": figures.copied,
    }
    shown = {name: value for name, value in shown.items() if not math.isnan(value)}
    names = list(shown)[::-1]
    colours = [GREEN if name.startswith("different") else VERMILION for name in names]
    place.barh(names, [shown[name] for name in names], color=colours)
    for row, name in enumerate(names):
        place.annotate(f" {shown[name]:.2f}", (shown[name], row), va="center", fontsize=8)
    place.set_xlim(0, 1.15)
    place.set_title("Green should be long, red short")


def _novelty(place: Any, overlaps: list[tuple[float, float]]) -> None:
    longest = [value for value, _ in overlaps if not math.isnan(value)]
    place.set_title("Longest passage from training")
    if not longest:
        place.annotate(
            "this bundle has no index of its\ntraining text",
            (0.5, 0.5),
            xycoords="axes fraction",
            ha="center",
        )
        return
    place.hist(
        longest, bins=min(20, max(1, int(max(longest) - min(longest)) + 1)), color=GREY, edgecolor="white"
    )
    place.set_xlabel("characters in a row")
    place.set_ylabel("texts")


def _states(place: Any, bundle: Bundle, found: list[Sample], seed: int) -> None:
    """Where the model's state ends, one dot per text: close dots ended in the same mood."""
    from sklearn.manifold import TSNE

    opening = bundle.tokenizer.encode(bundle.config.start) or [END_ID]
    states = []
    for item in found:
        ids = [*opening, *bundle.tokenizer.encode(item.prompt), *item.ids]
        while len(ids) > 1 and ids[-1] == END_ID:
            ids.pop()
        states.append(read(bundle, ids).hidden[-1].numpy())
    place.set_title("Final states (t-SNE)")
    place.set_xticks([])
    place.set_yticks([])
    if len(states) < 4:
        return
    points = TSNE(
        perplexity=float(min(15, max(2, (len(states) - 1) // 3))), init="pca", random_state=seed, max_iter=400
    ).fit_transform(np.stack(states).astype(np.float64))
    dots = place.scatter(
        *points.T, c=[_nats(item) for item in found], s=30, cmap="viridis", edgecolors="white"
    )
    place.figure.colorbar(dots, ax=place, label="nats per token", pad=0.01)
