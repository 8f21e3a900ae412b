"""What training tells while it runs, and how it went."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """What the callback hears of after every step. Losses in nats per token; None when not measured."""

    step: int
    steps: int
    loss: float
    rate: float
    tokens_per_second: float
    validation: float | None = None
    best: float | None = None
    warnings: tuple[str, ...] = ()


@dataclass
class Fitted:
    """How training went. `curve`: (step, train loss, validation loss) at each evaluation."""

    steps: int
    best: float
    best_step: int
    seconds: float
    tokens: int
    stopped_early: bool
    curve: list[tuple[int, float, float]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
