"""Where figures go: a PNG, an SVG and the numbers behind them, all under one name.

Colours are Okabe and Ito's (2008) and viridis, which colour-blind readers can tell apart; marks differ in shape
as well. matplotlib without pyplot: no global state, no display.
"""

from __future__ import annotations

import csv
import io
import json
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from training.errors import UserError

BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, BLACK, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#56B4E9",
    "#CC79A7",
    "#000000",
    "#7A7A7A",
)
PALETTE = (BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, BLACK, GREY)
MARKERS = "osD^vPX*"
FORMATS = ("png", "svg", "csv", "json")
USUAL = ("png", "svg", "csv")
MOST_BYTES = 200_000
"""A PNG larger than this is drawn again with fewer dots."""

_STYLE: Any = {
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "legend.frameon": False,
    "image.cmap": "viridis",
    "svg.hashsalt": "inkwell",
    "text.parse_math": False,  # a token may be a dollar sign
}


@dataclass
class Album:
    """A folder being filled. `written` lists what is there, in order."""

    folder: Path
    formats: Sequence[str] = USUAL
    written: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        wrong = [name for name in self.formats if name not in FORMATS]
        if wrong or not self.formats:
            raise UserError(f"format is {wrong[0] if wrong else ''!r}; allowed are {', '.join(FORMATS)}")

    def save(self, name: str, figure: Figure) -> None:
        """Write the picture as NAME.png and NAME.svg."""
        if "png" in self.formats:
            self._write(f"{name}.png", _png(figure))
        if "svg" in self.formats:
            buffer = io.BytesIO()
            with styled():
                figure.savefig(buffer, format="svg", metadata={"Date": None})
            self._write(f"{name}.svg", buffer.getvalue())

    def table(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Write the numbers as NAME.csv, floats with six digits, and as NAME.json, a list of objects in which
        what is no number (NaN) is null."""
        if not {"csv", "json"} & set(self.formats):
            return
        kept = [list(row) for row in rows]
        if "csv" in self.formats:
            buffer = io.StringIO(newline="")
            writer = csv.writer(buffer)
            writer.writerow(columns)
            writer.writerows([_shown(value) for value in row] for row in kept)
            self._write(f"{name}.csv", buffer.getvalue().encode())
        if "json" in self.formats:
            objects = [dict(zip(columns, map(_finite, row), strict=True)) for row in kept]
            text = json.dumps(objects, ensure_ascii=False, indent=1, allow_nan=False)
            self._write(f"{name}.json", text.encode())

    def _write(self, name: str, content: bytes) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / name
        path.write_bytes(content)
        self.written.append(path)


@contextmanager
def styled() -> Iterator[None]:
    """The look of all figures, for as long as they are drawn."""
    with rc_context(_STYLE), warnings.catch_warnings():
        # matplotlib's own font has no Chinese letters or emoji; a box stands in the picture, the CSV has the token
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def canvas(width: float, height: float, rows: int = 1, columns: int = 1, **more: Any) -> tuple[Figure, Any]:
    """An empty figure in inches and its axes, as an array of (rows, columns)."""
    with styled():
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False, **more)


def below(place: Any, handles: Sequence[Any] = (), names: Sequence[str] = (), columns: int = 2) -> None:
    """A legend under the axes, where no line can run through it."""
    entries = (list(handles), list(names)) if handles else place.get_legend_handles_labels()
    place.legend(*entries, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=columns, fontsize=8)


def visible(text: str) -> str:
    """A token as a label: white space and the end mark shown, the rest as it is."""
    marks = {" ": "␣", "\n": "↵", "\t": "⇥"}
    return "".join(marks.get(c, c if c.isprintable() else f"\\{ord(c):x}") for c in text) or "■"


def _png(figure: Figure) -> bytes:
    """Drawn with at most 256 colours, which no figure here needs more of, and a third of the size."""
    from PIL import Image

    content = b""
    for dots in (130, 100, 80, 60, 45):
        drawn, packed = io.BytesIO(), io.BytesIO()
        with styled():
            figure.savefig(drawn, format="png", dpi=dots)
        few = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
        few.save(packed, format="png", optimize=True)
        content = packed.getvalue()
        if len(content) <= MOST_BYTES:
            break
    return content


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _shown(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value
