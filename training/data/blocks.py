"""Pages as blocks of text: what HTML, EPUB and PDF have in common once their markup is gone.

A book is a list of chapters, a chapter a list of blocks: headings with their level, items of lists and
tables, and paragraphs.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Literal

BlockKind = Literal["heading", "item", "paragraph"]

_SKIPPED = frozenset(
    [
        "script",
        "style",
        "template",
        "noscript",
        "svg",
        "math",
        "nav",
        "header",
        "footer",
        "aside",
        "form",
        "button",
        "select",
        "iframe",
    ]
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_ITEMS = frozenset(["li", "td", "th", "dt", "dd", "caption", "option", "figcaption"])
_BREAKS = frozenset(
    [
        "p",
        "div",
        "section",
        "article",
        "main",
        "ul",
        "ol",
        "dl",
        "table",
        "tr",
        "tbody",
        "thead",
        "blockquote",
        "pre",
        "hr",
        "body",
        "address",
        "figure",
    ]
)
_VOID = frozenset(
    ("br", "hr", "img", "input", "meta", "link", "area", "base", "col", "embed", "source", "track", "wbr")
)
BOLD_HEADING = 7
"""Level of a short paragraph that is set in bold throughout: below all real headings."""
_MOST_BOLD_CHARS = 60
_DECLARED = re.compile(rb"<\?xml[^>]*encoding=[\"']([A-Za-z0-9._-]+)[\"']|charset=[\"']?([A-Za-z0-9._-]+)")


@dataclass(frozen=True)
class Block:
    """`level` is 1 to 7 for a heading and 0 otherwise. Line ends that the page asked for stay in `text`."""

    kind: BlockKind
    text: str
    level: int = 0


@dataclass(frozen=True)
class Chapter:
    """A page, or one document of a book. `name` is its path within the source."""

    name: str
    title: str
    blocks: tuple[Block, ...]

    @property
    def text(self) -> str:
        """Running text: blocks apart by empty lines."""
        return "\n\n".join(block.text for block in self.blocks)


@dataclass(frozen=True)
class Page:
    """What an HTML page holds. `links`: (address, whether the page asks not to follow it)."""

    title: str
    blocks: tuple[Block, ...]
    links: tuple[tuple[str, bool], ...]
    base: str | None
    robots: frozenset[str]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[Block] = []
        self.links: list[tuple[str, bool]] = []
        self.base: str | None = None
        self.robots: set[str] = set()
        self.title = ""
        self._parts: list[str] = []
        self._kind: BlockKind = "paragraph"
        self._level = 0
        self._skip: list[str] = []
        self._in_title = False
        self._bold = 0
        self._bold_chars = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "a" and values.get("href"):
            self.links.append((values["href"], "nofollow" in values.get("rel", "").lower().split()))
        elif tag == "base" and values.get("href"):
            self.base = self.base or values["href"]
        elif tag == "meta" and values.get("name", "").lower() == "robots":
            self.robots.update(re.split(r"[\s,]+", values.get("content", "").lower()))
        elif tag == "title":
            self._in_title = True
        if self._skip:
            if tag == self._skip[-1] and tag not in _VOID:
                self._skip.append(tag)
            return
        if tag in _SKIPPED:
            self._flush()
            self._skip.append(tag)
        elif tag == "br":
            self._parts.append("\n")
        elif tag in _HEADINGS:
            self._flush()
            self._kind, self._level = "heading", _HEADINGS[tag]
        elif tag in _ITEMS:
            self._flush()
            self._kind, self._level = "item", 0
        elif tag in _BREAKS:
            inside = self._kind == "item" and tag in ("p", "div")
            self._flush()
            self._kind = "item" if inside else "paragraph"
        elif tag in ("b", "strong"):
            self._bold += 1

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        if self._skip:
            if tag == self._skip[-1]:
                self._skip.pop()
            return
        if tag in _HEADINGS or tag in _ITEMS or tag in _BREAKS:
            inside = self._kind == "item" and tag in ("p", "div")
            self._flush()
            self._kind, self._level = ("item" if inside else "paragraph"), 0
        elif tag in ("b", "strong"):
            self._bold = max(0, self._bold - 1)

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data
        elif not self._skip:
            # line ends of the source are spaces; those that the page asks for come from <br>
            self._parts.append(re.sub(r"\s+", " ", data))
            if self._bold:
                self._bold_chars += len("".join(data.split()))

    def _flush(self) -> None:
        lines = (" ".join(line.split()) for line in "".join(self._parts).split("\n"))
        text = "\n".join(line for line in lines if line)
        bold, self._bold_chars = self._bold_chars, 0
        self._parts = []
        if not text:
            return
        if self._kind == "paragraph" and len(text) <= _MOST_BOLD_CHARS and bold >= len("".join(text.split())):
            self.blocks.append(Block("heading", text, BOLD_HEADING))
        else:
            self.blocks.append(Block(self._kind, text, self._level))

    def close(self) -> None:
        """Take what the page left open."""
        super().close()
        self._flush()


def read_html(text: str) -> Page:
    """Blocks and links of a page. Nothing in HTML is an error; menus, scripts and forms are left out."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    title = " ".join(reader.title.split())
    return Page(
        title, tuple(reader.blocks), tuple(reader.links), reader.base, frozenset(filter(None, reader.robots))
    )


def titled(name: str, title: str, blocks: Iterable[Block]) -> Chapter:
    """A chapter; without a title of its own it takes that of its first heading."""
    kept = tuple(blocks)
    first = next((block.text for block in kept if block.kind == "heading"), "")
    return Chapter(name, title or first.replace("\n", " "), kept)


def decoded(data: bytes, declared: str | None = None) -> str:
    """Text of a page: by its byte-order mark, else as the server or the page itself declares, else UTF-8."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    if declared is None and (found := _DECLARED.search(data[:1024])):
        declared = (found[1] or found[2]).decode("ascii")
    try:
        return data.decode(declared or "utf-8-sig")
    except (LookupError, UnicodeDecodeError):
        return data.decode("utf-8-sig", "replace")
