"""The parameters of a generation, as the gateway's native routes take them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from inkwell.client.errors import ValidationError

Strategy = Literal["random", "common", "rare", "letter", "nearest", "none"]


class SeedWord(TypedDict, total=False):
    """How an empty prompt is filled; `value` is the letter or the word asked for."""

    strategy: Strategy
    value: str


class NoveltyRule(TypedDict, total=False):
    """What to do with text that repeats the training corpus."""

    mode: Literal["mark", "reject"]
    max_overlap_chars: int


class Parameters(TypedDict, total=False):
    """All of them may be left out or be None, which means the model's own default."""

    temperature: float | None
    top_k: int | None
    top_p: float | None
    typical_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    frequency_penalty: float | None
    presence_penalty: float | None
    no_repeat_ngram_size: int | None
    logit_bias: Mapping[str, float] | None
    seed: int | None
    do_sample: bool | None
    num_beams: int | None
    length_penalty: float | None
    early_stopping: bool | Literal["never"] | None

    max_new_tokens: int | None
    min_new_tokens: int | None
    stop: Sequence[str] | None
    n: int | None
    best_of: int | None
    return_full_text: bool | None
    truncate: int | None

    regex: str | None
    starts_with: str | None
    ends_with: str | None
    contains: str | None
    min_chars: int | None
    max_chars: int | None
    allowed_chars: str | None
    syllables: int | Sequence[int] | None

    characters: Sequence[str] | None
    opening: str | None
    ending: str | None
    required_words: Sequence[str] | None
    forbidden_words: Sequence[str] | None
    forbid_loops: int | None

    category: str | Mapping[str, float] | None
    guidance: float | None
    seed_word: Strategy | SeedWord | None
    unique: bool | None
    session: str | None
    novelty: Literal["mark", "reject"] | NoveltyRule | None
    rank: Literal["logprob", "novelty", "pronounceable"] | None
    post_process: bool | Sequence[str] | None

    details: bool | None
    decoder_input_details: bool | None
    top_n_tokens: int | None
    trace: bool | None


NAMES = frozenset(Parameters.__annotations__)


def checked(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """`parameters` without those that are None. Raises ValidationError for a name that is not known."""
    for name in parameters:
        if name not in NAMES:
            close = difflib.get_close_matches(name, NAMES, n=1)
            hint = f"; did you mean {close[0]}?" if close else f"; allowed are {', '.join(sorted(NAMES))}"
            raise ValidationError(f"{name} is not a known parameter{hint}", kind="validation", field=name)
    return {name: _plain(value) for name, value in parameters.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return list(value)
    return value
