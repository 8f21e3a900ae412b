"""The report's pictures: histograms drawn with matplotlib as inline SVG that takes the page's own colours, and
lists of counts as plain rows with a bar.

Colours are named by the page's style sheet, so that a picture is readable on light and dark paper; both sides
also differ in form (filled, outlined), for readers who cannot tell the colours apart.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Stand-ins that no picture uses by itself; `_svg` puts the style sheet's names in their place.
_INKS = {
    "#010203": "var(--ink)",
    "#010204": "var(--source)",
    "#010205": "var(--made)",
    "#010206": "var(--line)",
}
INK, SOURCE, MADE, LINE = _INKS


def histogram(source: Sequence[int], generated: Sequence[int] | None, label: str) -> str:
    """Shares of sentences by length, both sides on the same bins; cut at the 99th percentile."""
    figure, axes = _figure(5.4, 2.5)
    both = sorted([*source, *(generated or [])])
    most = max(1, both[int(0.99 * (len(both) - 1))]) if both else 1
    width = -(-(most + 1) // 36)  # lengths are whole numbers: bins of equally many keep the bars even
    bins = [width * i - 0.5 for i in range(-(-(most + 1) // width) + 1)]
    axes.hist(source, bins=bins, weights=_shares(source), color=SOURCE, alpha=0.55, label="source")
    if generated:
        axes.hist(
            generated,
            bins=bins,
            weights=_shares(generated),
            histtype="step",
            linewidth=2.0,
            color=MADE,
            label="generated",
        )
    for values, colour in ((source, SOURCE), (generated or (), MADE)):
        if values:
            axes.axvline(sum(values) / len(values), color=colour, linestyle=(0, (2, 2)), linewidth=1.4)
    axes.set_xlim(-0.5, bins[-1])
    axes.set_xlabel(label)
    axes.set_ylabel("% of sentences")
    axes.locator_params(axis="y", nbins=4)
    axes.yaxis.grid(True, color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    return _svg(figure, f"Histogram of {label}; dotted lines are means")


def _shares(values: Sequence[int]) -> list[float]:
    return [100 / len(values)] * len(values)


@dataclass(frozen=True)
class Row:
    """One line of a list of counts. `share`: of the longest bar of its side, 0 to 100. `other`: it stands in the
    other side's list too."""

    name: str
    count: int
    share: float
    other: bool


def rows(counts: Sequence[tuple[str, int]], others: Sequence[tuple[str, int]] = ()) -> list[Row]:
    """A list of counts as lines with bars."""
    most = max((count for _, count in counts), default=1)
    known = {name for name, _ in others}
    return [Row(name, count, 100 * count / most, name in known) for name, count in counts]


def _figure(width: float, height: float) -> tuple[Any, Any]:
    # Figure without pyplot: no global state, no display.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK}):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.tick_params(labelsize=8, length=0)
    axes.xaxis.label.set_fontsize(9)
    axes.yaxis.label.set_fontsize(9)
    axes.patch.set_alpha(0)
    return figure, axes


def _svg(figure: Any, description: str) -> str:
    from matplotlib import rc_context

    buffer = io.StringIO()
    # text stays text, in the page's own font; the same counts give the same page
    with rc_context({"svg.hashsalt": "inkwell", "svg.fonttype": "none"}):
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=metadata, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for stand_in, name in _INKS.items():
        text = text.replace(stand_in, name)
    return text.replace("<svg ", f'<svg role="img" aria-label="{description}" ', 1)
