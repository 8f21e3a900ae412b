"""All groups of figures by name, and drawing some of them for one bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from inkwell.bundle import Bundle
from training.errors import UserError
from training.figures import (
    attention,
    confidence,
    diversity,
    dynamics,
    embedding,
    importance,
    temperature,
    training,
)
from training.figures.album import Album, styled


@dataclass(frozen=True)
class Wish:
    """What to draw from: the first seed, a beginning for texts ("": the model's own), how many texts where a
    figure counts them, and where runs keep their logs."""

    seed: int = 0
    prompt: str = ""
    samples: int = 32
    runs: Path = Path("runs")


Drawer = Callable[[Bundle, Album, Wish], None]
GROUPS: dict[str, Drawer] = {
    "embedding": lambda bundle, album, wish: embedding.draw(bundle, album, wish.seed),
    "dynamics": lambda bundle, album, wish: dynamics.draw(bundle, album, wish.seed, wish.prompt),
    "importance": lambda bundle, album, wish: importance.draw(bundle, album, wish.seed, wish.prompt),
    "confidence": lambda bundle, album, wish: confidence.draw(bundle, album, wish.seed, wish.prompt),
    "attention": lambda bundle, album, wish: attention.draw(bundle, album, wish.seed, wish.prompt),
    "diversity": lambda bundle, album, wish: diversity.draw(
        bundle, album, wish.seed, wish.prompt, wish.samples
    ),
    "temperature": lambda bundle, album, wish: temperature.draw(
        bundle, album, wish.seed, wish.prompt, wish.samples
    ),
    "training": lambda bundle, album, wish: training.draw(bundle, album, wish.seed, wish.runs),
}


def chosen_groups(only: Sequence[str]) -> list[str]:
    """Names of groups, all when none is named; an unknown one is a UserError."""
    for name in only:
        if name not in GROUPS:
            raise UserError(f"--only {name!r} is no group of figures; there are {', '.join(GROUPS)}")
    return [name for name in GROUPS if not only or name in only]


def draw_figures(
    bundle: Bundle,
    album: Album,
    only: Sequence[str] = (),
    wish: Wish | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """Draw the groups that fit the bundle into the album: the files written."""
    for name in chosen_groups(only):
        if name == "attention" and not attention.attends(bundle):
            if only:
                raise UserError(
                    f"{bundle.config.name} has no attention to draw; it is a {bundle.config.model['architecture']}"
                )
            continue
        before = len(album.written)
        with styled():
            GROUPS[name](bundle, album, wish or Wish())
        say(f"{name}: {', '.join(path.name for path in album.written[before:])}")
    return album.written
