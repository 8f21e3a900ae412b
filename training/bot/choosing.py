"""Which candidates may be posted, and why the others may not."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.bot.candidates import Candidate
from training.errors import DataError, UserError

_SENTENCE_END = re.compile(r"[.!?…][\"'’”)\]]*(?=\s|$)")
_UNSENDABLE = re.compile(r"[\ufffe\uffff\ufeff\x00-\x08\x0b-\x1f\x7f\ufffd]")


@dataclass(frozen=True)
class Rules:
    """What may be posted. `least` is in characters, `most` in the platform's own measure.

    `novelty`: `any` posts copies of the training text too, `known` refuses those that are known to be
    copies, `proven` also those of which it is not known. `whole`: a text cut by its token limit is shortened
    to its last whole sentence, and refused without one.
    """

    most: int
    length: Callable[[str], int]
    least: int = 1
    novelty: str = "known"
    whole: bool = True
    blocked: Sequence[re.Pattern[str]] = ()

    def __post_init__(self) -> None:
        if self.novelty not in ("any", "known", "proven"):
            raise UserError(f"--novelty {self.novelty!r} must be any, known or proven")
        if not 1 <= self.least <= self.most:
            raise UserError(f"--min-chars {self.least} must lie between 1 and the platform's {self.most}")


def read_block_list(path: Path) -> tuple[re.Pattern[str], ...]:
    """One entry per line: a word or phrase (whole words, any case), or a regular expression as `/…/`.

    `#` begins a comment line. Raises DataError naming file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the block list {path} cannot be read: {error}") from error
    found = []
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        is_pattern = len(line) > 2 and line.startswith("/") and line.endswith("/")
        words = r"\s+".join(map(re.escape, line.split()))
        try:
            found.append(re.compile(line[1:-1] if is_pattern else rf"(?<!\w){words}(?!\w)", re.IGNORECASE))
        except re.error as error:
            raise DataError(f"{path}:{number}: {line!r} is not a regular expression: {error}") from None
    return tuple(found)


def tidy(candidate: Candidate, *, whole: bool) -> str:
    """The text as it would be posted: outer and repeated white space gone, at most one empty line in a row,
    and with `whole` cut after its last sentence when the model was stopped before it had finished."""
    lines = (re.sub(r"[^\S\n]+", " ", line).strip() for line in candidate.text.split("\n"))
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
    if not whole or candidate.finished:
        return text
    ends = [found.end() for found in _SENTENCE_END.finditer(text)]
    return text[: ends[-1]] if ends else ""


def objection(candidate: Candidate, text: str, rules: Rules) -> str | None:
    """Why `text` may not be posted, in a word or two; None when it may."""
    if not text:
        return "unfinished" if candidate.text.strip() else "empty"
    if _UNSENDABLE.search(text):
        return "unsendable characters"
    if len(text) < rules.least:
        return "too short"
    if rules.length(text) > rules.most:
        return "too long"
    if rules.novelty != "any" and candidate.verdict == "copy":
        return "copied from the corpus"
    if rules.novelty == "proven" and candidate.verdict != "novel":
        return "novelty unknown"
    if any(pattern.search(text) for pattern in rules.blocked):
        return "blocked"
    return None
