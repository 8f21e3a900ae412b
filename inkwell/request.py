"""What goes into the engine and what comes out: requests, emissions, totals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from torch import Tensor

from inkwell.sampling import SamplingParams, Trace

FINISHED = ("length", "eos_token", "deadline", "cancelled", "stop_sequence")


class Constraint(Protocol):
    """Bars tokens while a text grows. Ids in, a mask out."""

    def allowed(self) -> Tensor:
        """Boolean (V,): tokens that may come next. At least one must be True."""

    def advance(self, token: int) -> None:
        """Tell which token came."""

    def finished(self) -> bool:
        """Whether the text is complete and nothing may follow it."""

    def instead(self, token: int) -> int:
        """What is written where `token` was chosen: mostly the token itself."""

    def fork(self) -> Constraint:
        """Another one in the same place, for a text that goes on differently."""


class Watch(Protocol):
    """Reads a text as it grows and tells where it ends. The engine has one per beam, which it does not read."""

    def push(self, token: int) -> bool:
        """Whether the text is complete with this token."""

    def fork(self) -> Watch:
        """Another one in the same place."""


@dataclass(frozen=True)
class BeamSettings:
    """How a likeliest text is searched for; the meaning of each is that of the `transformers` library."""

    width: int  # beams, 2 or more
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False


@dataclass(frozen=True)
class Request:
    """One text's work. `prompt` must not be empty: a text without a prompt begins with the end mark.

    `forced` are tokens of the text that are known already (resuming): they are replayed, not emitted. A request
    with `beams` has none.
    """

    id: str
    prompt: tuple[int, ...]
    sampling: SamplingParams
    max_new_tokens: int
    min_new_tokens: int = 0
    forced: tuple[int, ...] = ()
    position: int = 0
    condition: Mapping[int, float] | None = None
    guidance: float = 1.0  # logits = without + guidance · (with − without the condition); 1: off
    stops_at_end: bool = True  # the end mark ends the text; else it is barred
    deadline: float | None = None  # on the engine's clock
    logprobs: bool = False
    top_n_tokens: int = 0
    trace: bool = False
    constraint: Constraint | None = None
    beams: BeamSettings | None = None
    watch: Watch | None = None  # read by beams only; a sampled text is watched where its tokens go

    @property
    def guided(self) -> bool:
        """Whether each row has a shadow without the condition."""
        return self.guidance != 1.0 and self.condition is not None

    @property
    def rows(self) -> int:
        """How many rows of the state the request takes."""
        return (1 if self.beams is None else self.beams.width) * (2 if self.guided else 1)


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One text that a search found. `score` is `total`, its log-probability in nats, over length^penalty."""

    tokens: tuple[int, ...]
    total: float
    score: float
    reason: str  # one of FINISHED
    logprobs: tuple[float, ...] = ()
    top: tuple[tuple[tuple[int, float], ...], ...] = ()


class Emission(NamedTuple):
    """Tokens of one request, one after another, or its end without a token. `finished` tells of the last.

    `logprobs` are those of its tokens, where they are wanted. With `top` or `trace` there is one token. The last
    one of a search bears all texts that it found, the best first.
    """

    request_id: str
    tokens: tuple[int, ...]
    finished: str | None = None
    logprobs: tuple[float, ...] = ()
    top: tuple[tuple[int, float], ...] = ()
    trace: Trace | None = None
    found: tuple[Hypothesis, ...] = ()

    @property
    def token(self) -> int | None:
        """The last of its tokens."""
        return self.tokens[-1] if self.tokens else None

    @property
    def logprob(self) -> float | None:
        """The log-probability of the last of its tokens."""
        return self.logprobs[-1] if self.logprobs else None


@dataclass
class Stats:
    """Totals since the start. Times in seconds."""

    submitted: int = 0
    finished: int = 0
    cancelled: int = 0
    tokens: int = 0
    steps: int = 0
    row_steps: int = 0
    busy: float = 0.0


UNDRAWN = SamplingParams(temperature=0.0)
"""How a row is sampled whose token nobody asks for."""
