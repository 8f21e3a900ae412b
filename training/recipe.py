"""A recipe: everything that decides what training does. Presets are recipes in `presets/FAMILY.toml`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from inkwell.config import check, from_mapping
from inkwell.errors import ConfigError
from training.data.split import SplitOptions
from training.errors import UserError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PRESETS = Path(__file__).parent / "presets"
CORPORA = Path(__file__).parent / "corpora"
FAMILIES = ("prose", "names", "souls", "stories", "chars")


@dataclass(frozen=True)
class TokenizerRecipe:
    """How text becomes ids."""

    kind: Literal["chars", "bpe"] = "chars"
    size: int = 2000  # of BPE only


@dataclass(frozen=True)
class FitRecipe:
    """How the parameters are found."""

    steps: int = 1000
    batch: int = 32  # rows per step, over all accumulation and all processes
    length: int = 64  # tokens per window
    randomise: Literal["none", "shift", "chunk", "random"] = "shift"  # order of a stream's windows
    carry: bool = True  # recurrent models keep their state from window to window
    fresh: float = 0.03  # share of rows whose carried state is cleared before a window
    optimizer: Literal["adamw", "muon"] = "adamw"  # muon: for matrices inside the network
    rate: float = 2e-3
    warmup: int = 50
    final_rate: float = 0.05  # share of `rate` at the end of the cosine
    weight_decay: float = 0.01
    beta2: float = 0.99
    clip: float = 1.0
    ema: float = 0.0  # decay of averaged weights; 0: off
    teachers: tuple[str, ...] = ()  # bundles whose predictions are learned
    distill: float = 0.5  # share of the loss against the teachers' predictions; the rest is against the text
    written: int = (
        0  # batches of texts that the teachers write, after each batch of the corpus; documents only
    )
    accumulate: int = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    threads: int = 0  # 0: all cores
    evaluate_every: int = 100
    evaluate_tokens: int = 100_000  # of the validation set during training; the final figure takes all
    patience: int = 0  # evaluations without a better loss before stopping; 0: never
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "length", "accumulate", "evaluate_every", "evaluate_tokens"):
            check(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        for name in ("warmup", "patience", "threads", "seed", "written"):
            check(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        for name in ("rate", "clip"):
            check(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        for name in ("final_rate", "distill"):
            check(0 <= getattr(self, name) <= 1, name, getattr(self, name), "0 to 1")
        for name in ("weight_decay", "ema", "beta2", "fresh"):
            check(0 <= getattr(self, name) < 1, name, getattr(self, name), "0 or more, below 1")
        check(
            self.batch % self.accumulate == 0,
            "accumulate",
            self.accumulate,
            f"a divisor of batch ({self.batch})",
        )


@dataclass(frozen=True)
class Recipe:
    """One way to train one family. `corpus` is a file or folder, one of the sample corpora, or the name of a
    public corpus that `inkwell data fetch` brought."""

    family: str
    corpus: str
    model: dict[str, Any]
    kind: Literal["stream", "documents"] | None = None
    separator: str | None = None  # how a text file is cut into documents
    description: str = ""
    trainer: Literal["torch", "numpy"] = "torch"
    tokenizer: TokenizerRecipe = field(default_factory=TokenizerRecipe)
    split: SplitOptions = field(default_factory=SplitOptions)
    fit: FitRecipe = field(default_factory=FitRecipe)
    start: str = ""
    seed_words: bool = True
    novelty: bool = True
    defaults: dict[str, Any] = field(default_factory=dict)  # of generation
    limits: dict[str, Any] = field(default_factory=dict)

    def as_mapping(self) -> dict[str, Any]:
        """Plain values, for config.json and for comparing recipes."""
        return asdict(self)


_PARTS = {"tokenizer": TokenizerRecipe, "split": SplitOptions, "fit": FitRecipe}


def recipe_from(values: Mapping[str, Any], where: str) -> Recipe:
    """Strict reading; UserError names the key, the value and what is allowed."""
    try:
        ready = dict(values)
        for name, part in _PARTS.items():
            if name in ready:
                ready[name] = from_mapping(part, ready[name], f"{where}.{name}")
        return from_mapping(Recipe, ready, where)
    except ConfigError as error:
        raise UserError(str(error)) from None


def presets_of(family: str) -> dict[str, dict[str, Any]]:
    """All presets of a family as plain values."""
    if family not in FAMILIES:
        raise UserError(f"family is {family!r}; allowed are {', '.join(FAMILIES)}")
    with (PRESETS / f"{family}.toml").open("rb") as file:
        return tomllib.load(file)


def load_recipe(family: str, preset: str = "small", changes: Sequence[str] = ()) -> Recipe:
    """A preset with `changes` such as "fit.steps=500" or "model.hidden=256" applied (values are TOML)."""
    presets = presets_of(family)
    if preset not in presets:
        raise UserError(f"preset is {preset!r}; family {family!r} has {', '.join(presets)}")
    values: dict[str, Any] = {"family": family, **presets[preset]}
    for change in changes:
        _apply(values, change)
    return recipe_from(values, f"{family}.{preset}")


def _apply(values: dict[str, Any], change: str) -> None:
    path, equals, text = change.partition("=")
    if not equals or not path.strip():
        raise UserError(f"--set {change!r} must look like fit.steps=500")
    *parents, last = path.strip().split(".")
    for name in parents:
        values = values.setdefault(name, {})
        if not isinstance(values, dict):
            raise UserError(f"--set {change!r}: {name!r} is a value, not a table")
    try:
        values[last] = tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        values[last] = text.strip()


def with_corpus(recipe: Recipe, corpus: str) -> Recipe:
    """The same recipe over another corpus."""
    return replace(recipe, corpus=corpus)
