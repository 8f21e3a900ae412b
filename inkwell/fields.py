"""Readers of a job's fields: each checks one value as it comes over the wire and says what is allowed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from inkwell.errors import InvalidJob
from inkwell.lexicon import WORD
from inkwell.words import STRATEGIES

_ID = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(frozen=True)
class SeedWordChoice:
    """How an empty prompt is filled."""

    strategy: str = "random"
    value: str | None = None


@dataclass(frozen=True)
class NoveltyRule:
    """What to do with text that repeats the training text: `mark` reports it, `reject` tries again."""

    mode: str
    max_overlap_chars: int | None = None


Reader = Callable[[str, Any], Any]


def integer(low: int, high: int | None = None) -> Reader:
    allowed = f"an integer of {low} or more" if high is None else f"an integer from {low} to {high}"

    def read(name: str, value: Any) -> int:
        if type(value) is not int or value < low or (high is not None and value > high):
            raise InvalidJob(name, f"must be {allowed}; got {show(value)}")
        return value

    return read


def number(low: float, high: float, *, open_low: bool = False, open_high: bool = False) -> Reader:
    bounds = ("above " if open_low else "from ") + f"{low:g}"
    if high != math.inf:
        bounds += (" to below " if open_high else " to ") + f"{high:g}"
    else:
        bounds = f"above {low:g}" if open_low else f"of {low:g} or more"

    def read(name: str, value: Any) -> float:
        # an upper bound on integers first: a huge one cannot become a float
        good = type(value) in (int, float) and low <= value <= min(high, 1e300)
        if not good or (open_low and value == low) or (open_high and value == high):
            raise InvalidJob(name, f"must be a number {bounds}; got {show(value)}")
        return float(value)

    return read


def boolean(name: str, value: Any) -> bool:
    if type(value) is not bool:
        raise InvalidJob(name, f"must be true or false; got {show(value)}")
    return value


def text_of(most: int, least: int = 1) -> Reader:
    def read(name: str, value: Any) -> str:
        if not isinstance(value, str) or not least <= len(value) <= most:
            raise InvalidJob(name, f"must be a string of {least} to {most} characters; got {show(value)}")
        _whole(name, value)
        return value

    return read


def _whole(name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidJob(
            name, f"holds half a surrogate pair at character {error.start}; send valid Unicode"
        ) from None


def early_end(name: str, value: Any) -> bool | Literal["never"]:
    if type(value) is bool:
        return value
    if value != "never":
        raise InvalidJob(name, f"must be true, false or 'never'; got {show(value)}")
    return "never"


def job_id(name: str, value: Any) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise InvalidJob(
            name, f"must be 1 to 128 printable ASCII characters without spaces; got {show(value)}"
        )
    return value


def prompt_or_ids(name: str, value: Any) -> str | tuple[int, ...]:
    if isinstance(value, str):
        _whole(name, value)
        return value
    return token_ids(name, value)


def token_ids(name: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or any(type(item) is not int or item < 0 for item in value):
        raise InvalidJob(name, f"must be a string or a list of token ids; got {show(value)}")
    return tuple(value)


def stop_strings(name: str, value: Any) -> tuple[str, ...]:
    good = (
        isinstance(value, list)
        and len(value) <= 16
        and all(isinstance(s, str) and 0 < len(s) <= 256 for s in value)
    )
    if not good:
        raise InvalidJob(
            name, f"must be a list of up to 16 strings of 1 to 256 characters; got {show(value)}"
        )
    for item in value:
        _whole(name, item)
    return tuple(value)


def word_list(most: int) -> Reader:
    def read(name: str, value: Any) -> tuple[str, ...]:
        good = (
            isinstance(value, list)
            and len(value) <= most
            and all(isinstance(word, str) and len(word) <= 40 and WORD.fullmatch(word) for word in value)
        )
        if not good:
            raise InvalidJob(
                name, f"must be a list of up to {most} words of 1 to 40 letters each; got {show(value)}"
            )
        return tuple(dict.fromkeys(value))

    return read


def name_list(name: str, value: Any) -> tuple[str, ...]:
    found: tuple[str, ...] = word_list(16)(name, value)
    small = [word for word in found if not word[0].isupper()]
    if small:
        raise InvalidJob(name, f"must be names, which begin with a capital; got {show(small[0])}")
    return found


def bias(name: str, value: Any) -> dict[str, float]:
    good = isinstance(value, dict) and len(value) <= 1024
    if not good or any(type(bias) not in (int, float) or not -100 <= bias <= 100 for bias in value.values()):
        raise InvalidJob(
            name, f"must map up to 1024 ids or texts to numbers from -100 to 100; got {show(value)}"
        )
    for key in value:
        _whole(name, str(key))
    return {str(key): float(bias) for key, bias in value.items()}


def category_weights(name: str, value: Any) -> dict[str, float]:
    if isinstance(value, str):
        return {value: 1.0}
    good = isinstance(value, dict) and 0 < len(value) <= 64 and all(isinstance(key, str) for key in value)
    if not good or any(type(w) not in (int, float) or not 0 <= w <= 1e9 for w in value.values()):
        raise InvalidJob(
            name, f"must be a category or an object of categories and weights; got {show(value)}"
        )
    total = sum(value.values())
    if total <= 0:
        raise InvalidJob(name, "has no weight above 0")
    return {key: weight / total for key, weight in value.items()}


def seed_word_choice(name: str, value: Any) -> SeedWordChoice:
    values = {"strategy": value} if isinstance(value, str) else value
    if not isinstance(values, dict) or set(values) - {"strategy", "value"}:
        raise InvalidJob(name, f"must be an object with 'strategy' and 'value'; got {show(value)}")
    strategy, word = values.get("strategy", "random"), values.get("value")
    if strategy not in STRATEGIES:
        raise InvalidJob(f"{name}.strategy", f"must be one of {', '.join(STRATEGIES)}; got {show(strategy)}")
    return SeedWordChoice(strategy, None if word is None else text_of(64)(f"{name}.value", word))


def novelty_rule(name: str, value: Any) -> NoveltyRule:
    values = {"mode": value} if isinstance(value, str) else value
    if not isinstance(values, dict) or set(values) - {"mode", "max_overlap_chars"}:
        raise InvalidJob(name, f"must be an object with 'mode' and 'max_overlap_chars'; got {show(value)}")
    if values.get("mode") not in ("mark", "reject"):
        raise InvalidJob(f"{name}.mode", f"must be 'mark' or 'reject'; got {show(values.get('mode'))}")
    most = values.get("max_overlap_chars")
    return NoveltyRule(
        values["mode"], None if most is None else integer(1)(f"{name}.max_overlap_chars", most)
    )


def show(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."
