"""Beam search: what a caller may ask for together with it, and one job's texts as answers."""

from __future__ import annotations

import copy
from typing import Any

from api.errors import InvalidRequest
from api.jobs import Job, JsonObject

MAX_BEAMS = 16
# What says how tokens are drawn, and the values that say nothing: a search draws none.
_DRAWING: dict[str, tuple[float, ...]] = {
    "temperature": (0, 1),
    "top_k": (0,),
    "top_p": (1,),
    "typical_p": (1,),
    "min_p": (0,),
}
# What drops a text for another draw, or ranks draws: a search finds the same texts again, in its own order.
_REDRAWING = ("unique", "session", "rank", "syllables", "trace")


def check(values: dict[str, Any]) -> dict[str, Any]:
    """The job fields of a search, {} where none is asked for. Raises `InvalidRequest`.

    `values` are a request's parameters by name; those that are absent or null are not looked at.
    """
    beams = values.get("num_beams") or 1
    if beams == 1:
        for name, usual in (("length_penalty", 1), ("early_stopping", False)):
            if values.get(name) not in (None, usual):
                raise _refused(name, f"absent or {usual} unless num_beams is above 1", values[name])
        return {}
    for name, neutral in _DRAWING.items():
        if values.get(name) is not None and values[name] not in neutral:
            allowed = " or ".join(f"{value:g}" for value in neutral)
            raise _refused(
                name, f"absent or {allowed} with num_beams above 1, which draws nothing", values[name]
            )
    if values.get("do_sample"):
        raise _refused("do_sample", "absent or false with num_beams above 1, which draws nothing", True)
    for name in _REDRAWING:
        if values.get(name) not in (None, False):
            raise _refused(name, "absent with num_beams above 1, which always finds the same", values[name])
    novelty = values.get("novelty")
    if novelty == "reject" or getattr(novelty, "mode", None) == "reject":
        raise _refused("novelty", "absent or 'mark' with num_beams above 1", "reject")
    answers = values.get("n") or 1
    if answers > beams:
        raise _refused("n", f"at most num_beams ({beams})", answers)
    if values.get("best_of") not in (None, answers):
        raise _refused("best_of", f"absent or n ({answers}) with num_beams above 1", values["best_of"])
    fields: dict[str, Any] = {"num_beams": beams, "num_return_sequences": answers}
    for name in ("length_penalty", "early_stopping"):
        if values.get(name) is not None:
            fields[name] = values[name]
    return fields


def found(job: Job) -> list[tuple[Job, JsonObject]]:
    """The texts of a search that is done, best first, each as a job of its own with its end event."""
    end = job.end or {}
    texts = []
    for beam in end.get("beams") or [None]:
        if beam is None:  # it ended before it had any
            texts.append((job, end))
            continue
        view = copy.copy(job)
        view.ids, view.texts, view.special = beam["ids"], beam["texts"], beam["special"]
        view.logprobs, view.top = beam.get("logprobs", []), beam.get("top", [])
        about = ("text", "score", "finish_reason", "generated_tokens", "novelty", "characters")
        told = {name: beam[name] for name in about if name in beam}
        view.end = {**end, **told, "tail": beam.get("tail", "")}
        texts.append((view, view.end))
    return texts


def _refused(field: str, allowed: str, value: object) -> InvalidRequest:
    return InvalidRequest(f"{field} must be {allowed}; got {value!r}", field=field)
