"""The report's pictures as inline SVG, drawn with matplotlib in colours safe for colour-blind readers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

SOURCE, GENERATED = "#0072B2", "#D55E00"  # Okabe and Ito's blue and vermilion


def histogram(source: Sequence[int], generated: Sequence[int] | None, label: str) -> str:
    """Shares of sentences by length, both sides on the same bins; cut at the 99th percentile."""
    figure, axes = _figure(5.2, 2.6)
    both = sorted([*source, *(generated or [])])
    most = max(1, both[int(0.99 * (len(both) - 1))]) if both else 1
    width = -(-(most + 1) // 30)  # lengths are whole numbers: bins of equally many keep the bars even
    bins = [width * i - 0.5 for i in range(-(-(most + 1) // width) + 1)]
    axes.hist(source, bins=bins, density=True, color=SOURCE, alpha=0.75, label="source")
    if generated:
        axes.hist(
            generated,
            bins=bins,
            density=True,
            histtype="step",
            linewidth=1.8,
            color=GENERATED,
            label="generated",
        )
    axes.set_xlabel(label)
    axes.set_ylabel("share of sentences")
    axes.set_yticks([])
    axes.legend(frameon=False)
    return _svg(figure)


def bars(source: Sequence[tuple[str, int]], generated: Sequence[tuple[str, int]] | None) -> str:
    """The most frequent things of each side, side by side."""
    columns = 1 if generated is None else 2
    figure, axes = _figure(
        5.2 if columns == 1 else 8.4, 0.26 * max(len(source), len(generated or ()), 1) + 0.6, columns
    )
    pairs = [(source, SOURCE, "source")]
    if generated is not None:
        pairs.append((generated, GENERATED, "generated"))
    for place, (counts, colour, title) in zip([axes] if columns == 1 else axes, pairs, strict=True):
        names = [name for name, _ in counts][::-1]
        place.barh(range(len(names)), [count for _, count in counts][::-1], color=colour)
        # a text with two dollar signs is not a formula
        place.set_yticks(range(len(names)), names, parse_math=False)
        place.set_title(title, fontsize=9, loc="left")
    return _svg(figure)


def _figure(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    # Figure without pyplot: no global state, no display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns)
    for place in [axes] if columns == 1 else axes:
        place.spines[["top", "right"]].set_visible(False)
        place.tick_params(labelsize=8)
    return figure, axes


def _svg(figure: Any) -> str:
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": "inkwell"}):  # the same counts give the same page
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = buffer.getvalue()
    return text[text.index("<svg") :]
