"""The parameters of a generation, as callers write them, and their form in the worker protocol.

Unknown names are refused, an explicit null is the default. What the workers cannot do yet is refused by name
rather than ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api import beams
from api.errors import InvalidRequest

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

MAX_SEED = 2**63 - 1
# Beyond any limit that a model has, and well within what JSON's readers and writers can carry.
MOST = 1_000_000_000
POST_PROCESSES = ("spacing", "quotes", "capitals")

Text = Annotated[str, Field(max_length=1000)]
Word = Annotated[str, Field(min_length=1, max_length=40)]
Syllables = Annotated[int, Field(ge=1, le=50)]


class SeedWord(BaseModel):
    """How an empty prompt is filled; `value` is the letter or the word asked for."""

    model_config = _STRICT

    strategy: Literal["random", "common", "rare", "letter", "nearest", "none"] = "random"
    value: str | None = Field(default=None, max_length=200)


class Novelty(BaseModel):
    """What to do with text that repeats the training corpus."""

    model_config = _STRICT

    mode: Literal["mark", "reject"]
    max_overlap_chars: int | None = Field(default=None, ge=1, le=MOST)
    max_ratio: float | None = Field(
        default=None, ge=0, le=1, description="share of the text that may be copied"
    )


class Grammar(BaseModel):
    """A shape as text-generation-inference clients write it; only `regex` is supported."""

    model_config = _STRICT

    type: str
    value: Any


class Sampling(BaseModel):
    """Shared by the native and the OpenAI route."""

    model_config = _STRICT

    temperature: float | None = Field(default=None, ge=0, le=100, description="0 is greedy")
    top_k: int | None = Field(default=None, ge=0, le=MOST)
    top_p: float | None = Field(default=None, gt=0, le=1)
    typical_p: float | None = Field(default=None, gt=0, le=1)
    min_p: float | None = Field(default=None, ge=0, lt=1)
    repetition_penalty: float | None = Field(default=None, gt=0)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    no_repeat_ngram_size: int | None = Field(default=None, ge=0, le=MOST)
    logit_bias: dict[str, float] | None = Field(default=None, max_length=1024)
    seed: int | None = Field(default=None, ge=0, le=MAX_SEED)
    num_beams: int | None = Field(default=None, ge=1, le=beams.MAX_BEAMS, description="1 is sampling")
    length_penalty: float | None = Field(default=None, ge=-10, le=10)
    early_stopping: bool | Literal["never"] | None = None

    n: int | None = Field(default=None, ge=1, le=MOST)
    best_of: int | None = Field(default=None, ge=1, le=MOST)
    min_new_tokens: int | None = Field(default=None, ge=0, le=MOST)

    regex: Text | None = None
    starts_with: Text | None = None
    ends_with: Text | None = None
    contains: Text | None = None
    min_chars: int | None = Field(default=None, ge=0, le=MOST)
    max_chars: int | None = Field(default=None, ge=1, le=MOST)
    allowed_chars: Text | None = None
    syllables: Syllables | Annotated[list[Syllables], Field(min_length=2, max_length=2)] | None = Field(
        default=None, description="how many, or the fewest and the most"
    )

    characters: Annotated[list[Word], Field(max_length=16)] | None = Field(
        default=None, description="the names that a story has, and no others"
    )
    opening: Text | None = Field(default=None, description="what a story begins with")
    ending: Text | None = Field(default=None, description="what a story ends with, as its last sentence")
    required_words: Annotated[list[Word], Field(max_length=32)] | None = None
    forbidden_words: Annotated[list[Word], Field(max_length=256)] | None = None
    forbid_loops: int | None = Field(
        default=None, ge=2, le=32, description="no run of so many words comes twice"
    )

    category: str | dict[str, float] | None = None
    guidance: float | None = Field(
        default=None, ge=0, le=100, description="how much the category counts; 1 is off"
    )
    seed_word: str | SeedWord | None = None
    unique: bool | None = None
    session: str | None = Field(default=None, min_length=1, max_length=200)
    novelty: Literal["mark", "reject"] | Novelty | None = None
    rank: Literal["logprob", "novelty", "pronounceable"] | None = None
    post_process: bool | list[Literal["spacing", "quotes", "capitals"]] | None = None
    trace: bool | None = None

    def fields(self, model: str) -> dict[str, Any]:  # noqa: ARG002  a route's own parameters may need it
        """The job fields that every sample of the request shares; absent ones are the model's defaults."""
        searching = beams.check({name: getattr(self, name) for name in type(self).model_fields})
        fields: dict[str, Any] = {
            name: value for name in _PASSED_ON if (value := getattr(self, name)) is not None
        } | searching
        seed_word = self.seed_word
        if isinstance(seed_word, str):
            if seed_word not in _STRATEGIES:
                raise InvalidRequest(
                    f"seed_word must be one of {', '.join(_STRATEGIES)}, or an object with strategy and "
                    f"value; got {seed_word!r}",
                    field="seed_word",
                )
            seed_word = SeedWord.model_validate({"strategy": seed_word})
        if seed_word is not None:
            fields["seed_word"] = seed_word.model_dump(exclude_none=True)
        if (novelty := self.novelty_rule()) is not None:
            fields["novelty"] = novelty.model_dump(exclude_none=True, exclude={"max_ratio"})
        elif self.unique or self.rank == "novelty":
            # Both need to know what the text shares with the training corpus.
            fields["novelty"] = {"mode": "mark"}
        return fields

    def novelty_rule(self) -> Novelty | None:
        """What was asked for under `novelty`, in its long form."""
        if isinstance(self.novelty, str):
            return Novelty(mode=self.novelty)
        return self.novelty

    def syllable_range(self) -> tuple[int, int] | None:
        """The fewest and the most syllables. Raises `InvalidRequest` when they are in the wrong order."""
        if self.syllables is None:
            return None
        fewest, most = (
            self.syllables if isinstance(self.syllables, list) else (self.syllables, self.syllables)
        )
        if fewest > most:
            raise InvalidRequest(
                f"syllables must be a number, or the fewest and then the most; got {self.syllables!r}",
                field="syllables",
            )
        return fewest, most

    def post_processes(self) -> tuple[str, ...]:
        """The clean-ups asked for, in the order in which they are applied."""
        if self.post_process is True:
            return POST_PROCESSES
        if not self.post_process:
            return ()
        return tuple(name for name in POST_PROCESSES if name in self.post_process)

    def shaped(self) -> bool:
        """Whether the text can end for its shape, with neither an end mark nor the token limit."""
        return any(getattr(self, name) is not None for name in (*_SHAPES, "ending"))


_STRATEGIES = ("random", "common", "rare", "letter", "nearest", "none")
_SHAPES = ("regex", "starts_with", "ends_with", "contains", "min_chars", "max_chars", "allowed_chars")
_PASSED_ON = (
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
    "min_p",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "no_repeat_ngram_size",
    "logit_bias",
    "min_new_tokens",
    "category",
    "guidance",
    "trace",
    "characters",
    "opening",
    "ending",
    "required_words",
    "forbidden_words",
    "forbid_loops",
    *_SHAPES,
)


def unsupported(field: str, value: object, model: str, allowed: str) -> InvalidRequest:
    """A parameter that is known, and that no worker of `model` can follow."""
    return InvalidRequest(
        f"{field} is not supported by model {model}: {allowed} only; got {value!r}", field=field
    )
