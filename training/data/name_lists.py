"""Names under headings, as books and pages of names print them.

    Arabic                      a heading: the category of what follows
    Male                        a heading that says nothing of whose names they are: passed over
    1. Aamir (prosperous)       a number and a gloss around a name
    Adil, Bilal • Casim         several names in a line
    Female: Aisha, Dalal        a label before them

What is no name (sentences, numbers, addresses) is left out and counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from training.data.blocks import Block, Chapter
from training.data.corpus import Document
from training.data.report import DropLog
from training.data.split import key_of

MOST_CHARS = 40
MOST_WORDS = 5
_CAPITAL_SHARE = 0.8  # of the candidates: then those without a capital are words of a text

_SEPARATORS = re.compile(r"\s*[,;•·|\t●▪‣◦]\s*|\s{3,}")
_NUMBERING = re.compile(
    r"^(?:\(?\d{1,4}(?:\s*[-–]\s*\d{1,4})?\s*[.):]\s*|\d{1,3}(?:\s*[-–]\s*\d{1,3})?\s+|[-–—*+]\s+)"
)
_GLOSS = re.compile(r"\s*[(\[][^()\[\]]*[)\]]|\s+[-–—=]\s+.*$|\s*:\s+.*$")
_LABEL = re.compile(r"^(?P<label>[^\W\d_][^,;:.!?]{0,38}?)\s*:\s*(?P<rest>.*)$", re.S)
_GENERIC = re.compile(
    r"^(?:(?:fe)?males?|masculine|feminine|m[ae]n|wom[ae]n|boys?|girls?|unisex|neutral|either|both|any|"
    r"(?:sur|last|family|clan|given|first|fore|personal|common|other|more|full|place|nick)[- ]?names?|names?|"
    r"sample names?|titles?|epithets?|examples?|list|contents|[a-z]|[a-z]\s*[-–]\s*[a-z])$",
    re.I,
)
_NAMES_OF = re.compile(
    r"^(?:(?:list|names) of|common|typical|sample)\s+|\s+(?:(?:fe)?male\s+|given\s+|first\s+)?names?$", re.I
)
_SHAPE = re.compile(r"^[^\W\d_](?:[^\W\d_]|[ '’ʼ`´‘.\-‐‑])*[^\W\d_]\.?$|^[^\W\d_]$")
_ADDRESS = re.compile(r"https?:|www\.|@|\.(?:com|org|net)\b", re.I)


@dataclass(frozen=True)
class _Candidate:
    text: str
    category: str | None
    where: str


def read_names(chapters: Iterable[Chapter], log: DropLog) -> list[Document]:
    """One document per name and category, in order. The category is the nearest heading above that names
    somebody; names before any heading take the chapter's title, or none."""
    found = [candidate for chapter in chapters for candidate in _candidates(chapter, log)]
    capitals = sum(not candidate.text[0].islower() for candidate in found)
    strict = capitals >= _CAPITAL_SHARE * len(found)
    kept: list[Document] = []
    seen: set[tuple[str, str | None]] = set()
    for candidate in found:
        key = (key_of(candidate.text), candidate.category)
        if strict and candidate.text[0].islower():
            log.drop("name", "no capital, where nearly all others have one", candidate.text)
        elif key in seen:
            log.drop(
                "name", "stands twice in its category", f"{candidate.category or '(none)'}: {candidate.text}"
            )
        else:
            seen.add(key)
            kept.append(Document(candidate.text, candidate.category, candidate.where))
    return kept


def _candidates(chapter: Chapter, log: DropLog) -> Iterator[_Candidate]:
    path: list[tuple[int, str]] = []
    number = 0
    for block in chapter.blocks:
        if block.kind == "heading":
            heading = category_of(block.text)
            if heading is None:
                log.note("headings passed over, such as Male, Surnames or A")
                continue
            path = [above for above in path if above[0] < block.level] + [(block.level, heading)]
            continue
        category = path[-1][1] if path else category_of(chapter.title)
        for line in block.text.split("\n"):
            label, rest = _labelled(line)
            if label is not None:
                named = category_of(label)
                if named is None:
                    log.note("labels passed over, such as Female:")
                elif not rest:  # a label on a line of its own is a heading of plain text
                    path = [above for above in path if above[0] < 8] + [(8, named)]
                    category = named
                for text in _split(rest, log):
                    number += 1
                    yield _Candidate(text, named if named and rest else category, f"{chapter.name}/{number}")
                continue
            for text in _split(line, log):
                number += 1
                yield _Candidate(text, category, f"{chapter.name}/{number}")


def category_of(heading: str) -> str | None:
    """What a heading calls its names ("3. Common Arabic Names" → "Arabic"); None when it calls nobody."""
    text = _NUMBERING.sub("", " ".join(heading.split())).strip(" :.-–—")
    while (
        not _GENERIC.match(text) and (shorter := _NAMES_OF.sub("", text).strip(" :.-–—")) != text and shorter
    ):
        text = shorter
    if not text or _GENERIC.match(text) or not any(c.isalpha() for c in text):
        return None
    return text if not text.isupper() else text.title()


def _labelled(line: str) -> tuple[str | None, str]:
    """("Female", "Aisha, Dalal") of `Female: Aisha, Dalal`; (None, line) where a colon follows a single name
    ("Aamir: prosperous") or nothing."""
    found = _LABEL.match(_NUMBERING.sub("", line))
    if found is None:
        return None, line
    label, rest = found["label"], found["rest"].strip()
    if not rest or _GENERIC.match(label) or len(_SEPARATORS.split(rest)) > 1:
        return label, rest
    return None, line


def _split(line: str, log: DropLog) -> Iterator[str]:
    if is_sentence(line):
        log.drop("line", "a sentence, not names", line)
        return
    for part in _SEPARATORS.split(re.sub(r"\s*\([^()]*\)", _counted(log), line)):
        text = _NUMBERING.sub("", part.strip()).strip()
        bare = _GLOSS.sub("", text).strip()
        if bare != text and bare:
            log.note("meanings behind a name taken off")
        bare = re.sub(r"^(?:and|or)\s+", "", bare).strip(' "“”*_')
        if not bare:
            continue
        reason = objection(bare)
        if reason is None:
            yield bare
        else:
            log.drop("name", reason, bare)


def _counted(log: DropLog) -> Any:
    def take(_: re.Match[str]) -> str:
        log.note("meanings behind a name taken off")
        return ""

    return take


def is_sentence(line: str) -> bool:
    """Whether a line is prose: some part between its commas has more words than any name."""
    parts = _SEPARATORS.split(line)
    longest = max(len(_GLOSS.sub("", part).split()) for part in parts)
    ends = line.rstrip().endswith((".", "!", "?"))
    return longest > MOST_WORDS + 2 or (ends and longest > 3)


def objection(text: str) -> str | None:
    """Why a text cannot be a name; None when it may be one."""
    if _ADDRESS.search(text):
        return "an address"
    if any(c.isdigit() for c in text):
        return "holds digits"
    if len(text) > MOST_CHARS:
        return f"longer than {MOST_CHARS} characters"
    if len(text.split()) > MOST_WORDS:
        return f"more than {MOST_WORDS} words"
    if not _SHAPE.match(text):
        return "signs that no name has"
    return None


def from_lines(name: str, title: str, lines: Sequence[str]) -> Chapter:
    """Plain text as a chapter: a line in capitals, or one that is alone between empty lines, is a heading."""
    blocks: list[Block] = []
    for number, line in enumerate(lines):
        text = line.strip()
        if not text:
            continue
        before = not lines[number - 1].strip() if number else True
        after = not lines[number + 1].strip() if number + 1 < len(lines) else False
        short = len(text) <= MOST_CHARS and not _SEPARATORS.search(text)
        marked = text.lstrip("#").strip() if text.startswith("#") else None
        if marked:
            blocks.append(Block("heading", marked, len(text) - len(text.lstrip("#"))))
        elif short and ((before and after) or (text.isupper() and len(text) > 1)):
            blocks.append(Block("heading", text, 1))
        else:
            blocks.append(Block("paragraph", text))
    return Chapter(name, title, tuple(blocks))
