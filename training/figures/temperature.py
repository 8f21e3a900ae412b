"""Temperature, measured: what it does to coherence, repetition and novelty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.ticker import NullLocator

from inkwell.bundle import Bundle
from training.figures.album import BLUE, GREEN, ORANGE, VERMILION, Album, below, canvas
from training.figures.samples import Counted, Sample, count, sample

TEMPERATURES = (0.3, 0.6, 0.8, 1.0, 1.3)
SAMPLES = 32
MOST_TOKENS = 120
_TICKS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 200, 300, 500, 1000, 2000, 5000)


def measure(
    bundle: Bundle,
    seed: int,
    samples: int = SAMPLES,
    temperatures: Sequence[float] = TEMPERATURES,
    prompt: str = "",
) -> list[tuple[float, Counted]]:
    """Figures of `samples` texts at each temperature, with no other filter and the same seeds."""
    return [(t, count(bundle, texts)) for t, texts in texts_at(bundle, seed, samples, temperatures, prompt)]


def texts_at(
    bundle: Bundle, seed: int, samples: int, temperatures: Sequence[float] = TEMPERATURES, prompt: str = ""
) -> list[tuple[float, list[Sample]]]:
    """`samples` texts at each temperature, with no other filter and the same seeds."""
    plain = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0}
    options: dict[str, Any] = {**plain, **({"prompt": prompt} if prompt else {})}
    return [(t, sample(bundle, samples, seed, MOST_TOKENS, temperature=t, **options)) for t in temperatures]


def held_out(bundle: Bundle) -> float | None:
    """Nats per token of text the model never saw, where its metrics tell."""
    value = bundle.metrics.get("validation", {}).get("nats_per_token")
    return float(value) if isinstance(value, (int, float)) else None


def draw(bundle: Bundle, album: Album, seed: int, prompt: str = "", samples: int = SAMPLES) -> None:
    """temperature.png, .svg, .csv; temperature-texts.csv"""
    written = texts_at(bundle, seed, samples, prompt=prompt)
    found = [(t, count(bundle, texts)) for t, texts in written]
    album.table(
        "temperature-texts",
        ["temperature", "seed", "text"],
        ([t, seed + n, item.prompt + item.text] for t, texts in written for n, item in enumerate(texts)),
    )
    held = held_out(bundle)
    figure, axes = canvas(11.0, 4.4, 1, 3)
    degrees = [t for t, _ in found]
    place = axes[0][0]
    place.plot(degrees, [math.exp(f.nats) for _, f in found], "o-", color=BLUE, label="its own texts")
    if held is not None:
        place.axhline(math.exp(held), color=VERMILION, linestyle="--", label="held-out text")
    place.set_yscale("log")
    perplexities = [math.exp(figures.nats) for _, figures in found]
    low, high = min(perplexities), max(perplexities)
    place.yaxis.set_minor_locator(NullLocator())
    place.set_yticks([v for v in _TICKS if 0.8 * low <= v <= 1.2 * high])
    place.yaxis.set_major_formatter("{x:g}")
    place.set_title("Coherence: perplexity to the model itself")
    place.set_ylabel("perplexity per token")
    below(place, columns=1)
    shares = (
        ("repeated 4-grams", "repeated", VERMILION, "o-"),
        ("different triples", "distinct_3", GREEN, "s--"),
        ("different texts", "distinct", BLUE, "D:"),
    )
    copies = (("copied share", "copied", ORANGE, "o-"), ("exact copies", "exact", VERMILION, "s--"))
    panels = ((axes[0][1], "Repetition and variety", shares), (axes[0][2], "Copying", copies))
    for place, title, lines in panels:
        for name, key, colour, style in lines:
            values = [getattr(figures, key) for _, figures in found]
            if not any(math.isnan(value) for value in values):
                place.plot(degrees, values, style, color=colour, label=name)
        place.set_ylim(-0.03, 1.05)
        place.set_title(title)
        place.set_ylabel("share")
        if place is axes[0][1]:
            below(place, columns=1)
        elif not place.lines:
            place.annotate("no index of the training text", (0.5, 0.5), xycoords="axes fraction", ha="center")
    _add_longest(axes[0][2], found)
    for place in axes[0]:
        place.set_xlabel("temperature")
    figure.suptitle(
        f"{bundle.config.name}: {samples} texts at each of {len(found)} temperatures, no other filter"
    )
    album.save("temperature", figure)
    columns = list(Counted.__dataclass_fields__)
    album.table(
        "temperature",
        ["temperature", *columns, "perplexity", "held_out_perplexity"],
        (
            [
                t,
                *(getattr(figures, name) for name in columns),
                math.exp(figures.nats),
                math.nan if held is None else math.exp(held),
            ]
            for t, figures in found
        ),
    )


def _add_longest(place: Any, found: Sequence[tuple[float, Counted]]) -> None:
    """The longest copied passage on an axis of its own: it tells before whole passages are copied."""
    values = [figures.longest for _, figures in found]
    if any(math.isnan(value) for value in values):
        return
    other = place.twinx()
    other.plot([t for t, _ in found], values, "D:", color=BLUE, label="longest passage")
    other.set_ylim(0, max(values) * 1.3 + 1)
    other.set_ylabel("characters", color=BLUE)
    other.spines["right"].set_visible(True)
    handles, names = place.get_legend_handles_labels()
    more, more_names = other.get_legend_handles_labels()
    below(place, [*handles, *more], [*names, *more_names], columns=1)
