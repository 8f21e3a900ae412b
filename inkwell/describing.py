"""A served model's card for machines: what it is, what it may be asked, and how its engine does."""

from __future__ import annotations

from typing import Any

import torch

from inkwell import __version__
from inkwell.bundle import Bundle
from inkwell.engine import Engine
from inkwell.job import Limits


def describe(
    bundle: Bundle, limits: Limits, engine: Engine, device: torch.device, runtime: str
) -> dict[str, Any]:
    """The card, as docs/protocol.md has it."""
    config, stats = bundle.config, engine.stats
    return {
        "name": config.name,
        "version": config.version,
        "family": config.family,
        "architecture": config.model["architecture"],
        "parameters": bundle.model.parameter_count(),
        "vocabulary": bundle.model.vocabulary,
        "context": bundle.model.context,
        "tokenizer": bundle.tokenizer.kind,
        "kind": config.kind,
        "categories": list(bundle.categories),
        "seed_words": len(bundle.words.words) if config.seed_words else 0,
        "seed_word_sample": bundle.words.sample() if config.seed_words else [],
        "limits": {
            "max_new_tokens": limits.max_new_tokens,
            "max_prompt_tokens": limits.max_prompt_tokens,
        },
        "defaults": config.defaults,
        "metrics": bundle.metrics,
        "inkwell": __version__,
        "device": str(device),
        "runtime": runtime,
        "runtimes": bundle.runtimes,
        "slots": engine.slots,
        "bytes_per_slot": engine.state.bytes_per_row,
        "engine": {
            "active": engine.active,
            "queued": engine.queued,
            "submitted_total": stats.submitted,
            "finished_total": stats.finished,
            "cancelled_total": stats.cancelled,
            "tokens_total": stats.tokens,
            "steps_total": stats.steps,
            "row_steps_total": stats.row_steps,
            "busy_seconds_total": stats.busy,
        },
    }
