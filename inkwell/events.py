"""What events tell of a text: its likeliest tokens, its place among a search's, how far it repeats the corpus."""

from __future__ import annotations

from typing import Any

from inkwell.beams import Top
from inkwell.bundle import Bundle
from inkwell.engine import Hypothesis
from inkwell.fields import NoveltyRule
from inkwell.growing import GrowingText
from inkwell.job import Job
from inkwell.lexicon import mentions
from inkwell.tokenizer import END_ID, END_TEXT

Event = dict[str, Any]
DEFAULT_MAX_OVERLAP = 60
"""Characters in a row that a text may share with the training text before its verdict is "copy"."""


def likeliest(bundle: Bundle, top: Top) -> list[Event]:
    """The likeliest tokens at one place."""
    return [
        {
            "id": token,
            "text": END_TEXT if token == END_ID else bundle.tokenizer.decode([token]),
            "logprob": logprob,
        }
        for token, logprob in top
    ]


def beam(bundle: Bundle, job: Job, prompt: str, found: Hypothesis) -> Event:
    """One text of a search, as `end.beams` has it."""
    text = GrowingText(bundle.tokenizer, job.stop)
    texts = [text.push(token) for token in found.tokens]
    tail = text.finish()
    event: Event = {
        "text": str(text),
        "score": found.score,
        "finish_reason": found.reason,
        "generated_tokens": text.tokens,
        "ids": list(found.tokens),
        "texts": texts,
        "special": [token == END_ID for token in found.tokens],
    }
    if tail:
        event["tail"] = tail
    if job.logprobs:
        event["logprobs"] = list(found.logprobs)
    if job.top_n_tokens:
        event["top"] = [likeliest(bundle, top) for top in found.top]
    return event | judged(bundle, job, prompt, str(text))


def judged(bundle: Bundle, job: Job, prompt: str, text: str) -> Event:
    """What the job asks to know of a whole text."""
    told: Event = {}
    if job.characters:
        told["characters"] = mentions(text, job.characters)
    if job.novelty is not None:
        told["novelty"] = novelty(bundle, job.novelty, prompt, text)
    return told


def novelty(bundle: Bundle, rule: NoveltyRule, prompt: str, text: str) -> Event:
    """How far the text repeats the training text. Prompt and text together are compared with whole training
    documents, the text alone with passages: a caller may quote what he likes."""
    index = bundle.load_novelty()
    if index is None:
        return {"verdict": "unknown"}
    found = index.check(text)
    most = DEFAULT_MAX_OVERLAP if rule.max_overlap_chars is None else rule.max_overlap_chars
    exact = index.contains(prompt + text)
    event: Event = {
        "verdict": "copy" if exact or found.longest > most else "novel",
        "exact_copy": exact,
        "longest": found.longest,
        "ratio": round(found.ratio, 4),
        "start": found.start,
        "end": found.end,
        "excerpt": found.excerpt,
    }
    if found.document is not None:
        event["source"] = {"document": found.document, "title": found.title, "offset": found.offset}
    return event
