"""Splitting English prose into sentences by rules.

A sentence ends at `.`, `!`, `?`, `…` or a run of them, together with the quotes and brackets that close
behind it, when white space follows and what comes next may begin a sentence. It does not end after a
title ("Dr. Vane"), an initial ("J. R. Reed"), inside a number ("3.5"), at an ellipsis or a spoken
exclamation that the sentence runs on from ("Halt!" he cried). Blank lines always end a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# Never the end of a sentence: a name or a number follows.
_TITLES = """
mr mrs ms messrs mme mlle dr prof st ste sir rev fr hon gen col maj capt lt sgt cpl cmdr adm gov pres sen
rep vs viz cf no nos vol ch pp fig eg e.g i.e ie al ca approx
"""
# The end only when a new sentence clearly begins.
_SHORTENINGS = """
etc jr sr inc ltd co corp bros ft lb lbs oz yd yds hr hrs a.m p.m b.c a.d ave blvd rd dept
jan feb apr jun jul aug sep sept oct nov dec esq
"""
_STARTERS = """
a an the this that these those it he she they we you i in on at as if when while for from to but and or yet
so there here his her its their your my our one once each every no not all some many most only after before
by with without though although since until upon under over what who why how where use do
"""
_TITLE_WORDS, _SHORT_WORDS, _STARTER_WORDS = (
    frozenset(words.split()) for words in (_TITLES, _SHORTENINGS, _STARTERS)
)

_CLOSERS = "\"'”’»)]}」』"
_OPENERS = "\"'“‘«([{—–-「『"
_END = re.compile(
    rf"(?P<mark>[.!?…]+|[。！？])(?P<close>[{re.escape(_CLOSERS)}]*)(?P<space>\s+|$|(?<=[。！？」』]))"
)
_WORD_BEFORE = re.compile(r"([^\s" + re.escape(_OPENERS) + r"]+)$")
_INITIAL = re.compile(r"^[A-Z]$")
_PARAGRAPH = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")
_SPACES = re.compile(r"\s+")


def split_sentences(text: str) -> list[str]:
    """Sentences in order, inner white space collapsed to single spaces, none empty."""
    return [sentence for paragraph in _PARAGRAPH.split(text) for sentence in _in_paragraph(paragraph)]


def ends_sentence(text: str) -> bool:
    """Whether text ends as a sentence does, closing quotes and brackets aside."""
    return text.rstrip(_CLOSERS + " \t\n").endswith((".", "!", "?", "…", "。", "！", "？"))


def _in_paragraph(paragraph: str) -> Iterator[str]:
    text = _SPACES.sub(" ", paragraph).strip()
    start = 0
    for found in _END.finditer(text):
        if _is_end(text, start, found):
            yield text[start : found.end("close")].strip()
            start = found.end()
    rest = text[start:].strip()
    if rest:
        yield rest


def _is_end(text: str, start: int, found: re.Match[str]) -> bool:
    mark, close = found["mark"], found["close"]
    rest = text[found.end() :]
    if not rest or mark in "。！？":
        return True
    first = rest.lstrip(_OPENERS + " ")[:1]
    if first.islower():
        return False  # the sentence runs on: "Halt!" he cried; well... perhaps
    if first and not first.isalnum() and first not in "…¿¡":
        return False  # stray punctuation belongs to what stands before it
    if mark != ".":
        return True
    before = _WORD_BEFORE.search(text[start : found.start()])
    word = before[1] if before else ""
    lowered = word.lower()
    if close:
        return True
    if _INITIAL.match(word) and word != "I":
        return False
    if lowered in _TITLE_WORDS:
        return lowered == "no" and not first.isdigit()  # "The answer was no. He left." but "No. 5"
    if lowered in _SHORT_WORDS:
        following = re.match(r"[\w’']+", rest.lstrip(_OPENERS + " "))
        return following is not None and following[0].lower() in _STARTER_WORDS and first.isupper()
    return True
