"""Links inside a text, found as X finds them: with `http(s)://`, or bare below a known top-level domain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import regex

from training.bot.tlds import TLDS

_LATIN = (
    r"\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u024F\u0253\u0254\u0256\u0257\u0259\u025B\u0263\u0268\u026F\u0272\u0289"
    r"\u028B\u02BB\u0300-\u036F\u1E00-\u1EFF"
)
_PATH = rf"[a-z0-9!*';:=+,.$/%#\[\]\-\u2013_~@|&\u0400-\u04FF{_LATIN}]"
_PARENS = rf"\((?:{_PATH}+|{_PATH}*\({_PATH}+\){_PATH}*)\)"
_TAIL = rf"(?:[+\-a-z0-9=_#/\u0400-\u04FF{_LATIN}]|{_PARENS})"
_QUERY = r"\?[a-z0-9!?*'@();:&=+$/%#\[\]\-_.,~|]*[a-z0-9\-_&=#/]"
_REST = regex.compile(
    rf"(?::[0-9]+)?(?P<path>/(?:(?:{_PATH}|{_PARENS})*{_TAIL})?)?(?P<query>{_QUERY})?", regex.IGNORECASE
)
_HOST = regex.compile(r"(?P<scheme>https?://)?(?P<host>[a-z0-9_\-]+(?:\.[a-z0-9_\-]+)+)", regex.IGNORECASE)
_LABEL = regex.compile(r"[a-z0-9](?:[a-z0-9\-]*[a-z0-9])?", regex.IGNORECASE)
_SHORT = regex.compile(rf"/[a-z0-9]{{1,40}}(?![a-z0-9])(?:{_QUERY})?", regex.IGNORECASE)
_BARRED_BEFORE = frozenset("@＠$#＃\ufffe\ufeff\uffff")


@dataclass(frozen=True)
class Link:
    """`text[start:end]` is the link. `bare` is one without a scheme; `clean` one whose host is plain ASCII
    labels, so that every platform sees the same bounds."""

    start: int
    end: int
    bare: bool
    clean: bool


def links(text: str) -> Iterator[Link]:
    """The links of `text`, from left to right, none inside another."""
    at = 0
    while (found := _HOST.search(text, at)) is not None:
        link = _link(text, found)
        if link is None:
            at = found.start() + 1  # a scheme may begin within what looked like a host
            continue
        yield link
        at = link.end


def target(text: str, link: Link) -> str:
    """The address a link leads to."""
    written = text[link.start : link.end]
    return f"https://{written}" if link.bare else written


def _link(text: str, found: regex.Match[str]) -> Link | None:
    bare = found["scheme"] is None
    if not _may_begin(text, found.start(), bare):
        return None
    labels = found["host"].split(".")
    # The last label that is a top-level domain ends the host; an underscore ends a label there.
    known = [at for at in range(1, len(labels)) if labels[at].partition("_")[0].lower() in TLDS]
    if not known:
        return None
    kept = [*labels[: known[-1]], labels[known[-1]].partition("_")[0]]
    end = found.start("host") + len(".".join(kept))
    if text[end : end + 1] == "@":
        return None
    clean = all(_LABEL.fullmatch(label) and len(label) <= 63 for label in labels)
    if end == found.end():
        end, clean = _with_rest(text, end, found["host"].lower(), bare, clean)
    return Link(found.start(), end, bare, clean)


def _may_begin(text: str, start: int, bare: bool) -> bool:
    before = text[start - 1] if start else " "
    if before in _BARRED_BEFORE or (before.isascii() and before.isalnum()):
        return False
    if bare and before == "." and start > 1:
        # X takes nearly every character beyond ASCII for a part of a domain.
        return not text[start - 2].isascii() and not text[start - 2].isspace()
    return not (bare and before in "-_./")


def _with_rest(text: str, end: int, host: str, bare: bool, clean: bool) -> tuple[int, bool]:
    """Where the link ends, with port, path and query. A bare host takes those only with a path."""
    rest = _REST.match(text, end)
    if rest is None or (bare and not rest["path"]):
        return end, clean
    # Nothing follows a link of X's own shortener but its one word.
    if host == "t.co" and not bare and rest["path"]:
        short = _SHORT.match(text, end)
        return (short.end(), clean) if short else (end, False)
    return rest.end(), clean
