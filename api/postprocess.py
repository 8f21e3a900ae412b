"""Principled clean-up of generated prose: spacing, quotes, sentence capitals. No words are ever replaced."""

from __future__ import annotations

import re

_SPACES = re.compile(r"[ \t]+")
_BEFORE_MARK = re.compile(r"[ \t]+([,.;:!?…)\]}])")
_AFTER_OPEN = re.compile(r"([(\[{])[ \t]+")
_AFTER_COMMA = re.compile(r"([,;])(?=[^\W\d_])")
_LINE_ENDS = re.compile(r"[ \t]*\n[ \t]*")
_CONTRACTION = re.compile(r"(?i)\b(\w+)[ \t]*(['’])[ \t]*(s|t|d|m|re|ve|ll)\b")
_SENTENCE_START = re.compile(r"((?:^|[.!?…][\"'”’)\]]*\s+|\n)[\"'“‘(\[]*)([^\W\d_])")
_SINGLE_I = re.compile(r"(?<![\w.'’-])i(?=['’ ,.!?;:]|$)")
# A single capital before a full stop is an initial, and these words do not end a sentence.
_ABBREVIATED = re.compile(r"(?:\b(?:[A-Z]|Mr|Mrs|Ms|Dr|St|Prof|etc|e\.g|i\.e))\.[\"'”’)\]]*\s+[\"'“‘(\[]*$")


def post_process(text: str, steps: tuple[str, ...]) -> str:
    """Apply `steps` (of `spacing`, `quotes`, `capitals`) in that order. Idempotent."""
    for step in steps:
        text = _STEPS[step](text)
    return text


def _spacing(text: str) -> str:
    text = _LINE_ENDS.sub("\n", _SPACES.sub(" ", text))
    text = _BEFORE_MARK.sub(r"\1", text)
    text = _AFTER_OPEN.sub(r"\1", text)
    text = _AFTER_COMMA.sub(r"\1 ", text)
    return text.strip()


def _quotes(text: str) -> str:
    """Join split contractions, and let double quotes hug what they enclose; an unclosed one gets its end."""
    text = _CONTRACTION.sub(r"\1\2\3", text)
    return "\n".join(_hug(line) for line in text.split("\n"))


def _hug(line: str) -> str:
    parts = line.split('"')
    for index in range(1, len(parts), 2):
        parts[index] = parts[index].strip()
    if len(parts) % 2 == 0:
        parts.append("")
    out = parts[0]
    for index in range(1, len(parts)):
        part = parts[index]
        closing = index % 2 == 0
        if closing and part and part[0].isalnum():
            part = " " + part
        if not closing and out and not out[-1].isspace() and out[-1] not in "([{“‘—-":
            out += " "
        out += '"' + part
    return out


def _capitals(text: str) -> str:
    def raised(match: re.Match[str]) -> str:
        before = text[: match.start(2)]
        if _ABBREVIATED.search(before):
            return match.group(0)
        return match.group(1) + match.group(2).upper()

    return _SINGLE_I.sub("I", _SENTENCE_START.sub(raised, text))


_STEPS = {"spacing": _spacing, "quotes": _quotes, "capitals": _capitals}
