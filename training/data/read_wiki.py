"""A wiki's own export (MediaWiki XML, also as .bz2 or .gz) to names with categories.

    <mediawiki><siteinfo>…<namespace key="14">Category</namespace>…</siteinfo>
    <page><title>Aino</title><ns>0</ns><id>7</id><revision><text>… [[Category:Elves]]</text></revision></page>

A page's title is the name; its category is the group of the first of its categories that a mapping knows
(see `grouping.py`). The dump is streamed: memory grows with the names, not with the file.
"""

from __future__ import annotations

import bz2
import gzip
import html
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast
from xml.parsers import expat

from training.data.corpus import Document
from training.data.grouping import UNKNOWN, UNMAPPED_RULES, Grouping, UnmappedRule
from training.data.name_lists import objection
from training.data.report import DropLog
from training.data.safe_xml import feed, local
from training.data.split import key_of
from training.errors import DataError, UserError

CHUNK = 1 << 16
MOST_PAGE_CHARS = 4_000_000
CATEGORY_NAMESPACE = 14
_ENDINGS = (".xml", ".xml.bz2", ".xml.gz")

_QUALIFIER = re.compile(r"\s*[(（][^()（）]*[)）]\s*$")
_COMMENTS = re.compile(r"<!--.*?-->|<nowiki>.*?</nowiki>|<pre>.*?</pre>", re.S | re.I)
_REDIRECT = re.compile(
    r"\s*#\s*(?:redirect|weiterleitung|redirection|redirección|rinvia|omdirigering)\b", re.I
)
_DISAMBIGUATION = re.compile(
    r"\{\{\s*(?:[^{}|]*[ _-])?(?:disambig(?:uation)?|disam|dab|hndis|geodis|homonymie|begriffsklärung|"
    r"desambiguación|disambigua)\b[^{}]*\}\}|__DISAMBIG__",
    re.I,
)
_LIST = re.compile(
    r"^(?:list|lists|index|timeline|glossary|outline|category|portal) of\b|^(?:main page|index)$", re.I
)
_LINK = re.compile(r"\[\[\s*([^\[\]:|]+?)\s*:\s*([^\[\]|]+?)\s*(?:\|[^\[\]]*)?\]\]")


@dataclass(frozen=True)
class WikiOptions:
    """namespaces: numbers of those that are taken, 0 being articles. mapping: raw categories to groups; without
    one a page's first category is its label. unmapped: what happens to pages whose categories the mapping does
    not know: keep their first one, call them unknown, drop them, or stop with an error."""

    namespaces: tuple[int, ...] = (0,)
    mapping: Grouping | None = None
    unmapped: UnmappedRule = "keep"

    def __post_init__(self) -> None:
        if not self.namespaces:
            raise UserError("namespaces is empty; 0 stands for articles")
        if self.unmapped not in UNMAPPED_RULES:
            raise UserError(f"unmapped is {self.unmapped!r}; allowed are {', '.join(UNMAPPED_RULES)}")


@dataclass
class WikiPage:
    """One page as the dump has it; of several revisions the last."""

    title: str = ""
    namespace: int = 0
    id: str = ""
    redirect: bool = False
    text: str = ""
    too_long: bool = False


@dataclass
class _Handler:
    where: str
    parser: expat.XMLParserType = field(default_factory=expat.ParserCreate)
    pages: list[WikiPage] = field(default_factory=list)
    namespaces: dict[int, str] = field(default_factory=dict)
    stack: list[str] = field(default_factory=list)
    page: WikiPage = field(default_factory=WikiPage)
    parts: list[str] = field(default_factory=list)
    size: int = 0
    key: int = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        name = local(tag.replace(":", "}"))
        if not self.stack and name != "mediawiki":
            raise DataError(f"{self.where}: the outermost element is <{name}>, not <mediawiki>")
        self.stack.append(name)
        self.parts, self.size = [], 0
        if name == "page":
            self.page = WikiPage()
        elif name == "redirect":
            self.page.redirect = True
        elif name == "namespace":
            self.key = _number(attributes.get("key"), f"{self.where}: <namespace> key")

    def data(self, piece: str) -> None:
        self.size += len(piece)
        if self.size <= MOST_PAGE_CHARS:
            self.parts.append(piece)

    def end(self, name: str) -> None:
        name = self.stack.pop()
        value, page = "".join(self.parts), self.page
        above = self.stack[-1] if self.stack else ""
        if name == "page":
            self.pages.append(page)
        elif name == "namespace":
            self.namespaces[self.key] = value.strip()
        elif name == "text" and above == "revision":
            page.text, page.too_long = value, self.size > MOST_PAGE_CHARS
        elif above == "page" and name == "title":
            page.title = " ".join(value.split())
        elif above == "page" and name == "ns":
            line = f"{self.where}, line {self.parser.CurrentLineNumber}: <ns>"
            page.namespace = _number(value.strip(), line)
        elif above == "page" and name == "id":
            page.id = value.strip()
        self.parts, self.size = [], 0


def _number(text: str | None, where: str) -> int:
    try:
        return int(text or "")
    except ValueError:
        raise DataError(f"{where} is {text!r}; a whole number is needed") from None


def is_wiki_dump(path: Path) -> bool:
    """Whether a file is named like a dump and begins like one; raises no error for what is broken."""
    if not path.name.lower().endswith(_ENDINGS):
        return False
    try:
        with _opened(path) as stream:
            return b"<mediawiki" in stream.read(4096)
    except (OSError, EOFError, zlib.error):
        return path.suffix.lower() != ".xml"  # broken packing is told of by the reader


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as stream:
        head = stream.read(6)
    if head[:3] == b"BZh":
        return cast(IO[bytes], bz2.open(path, "rb"))
    if head[:2] == b"\x1f\x8b":
        return cast(IO[bytes], gzip.open(path, "rb"))
    if head == b"7z\xbc\xaf\x27\x1c":
        raise DataError(f"{path}: is a 7z archive; unpack it first, or take the dump's .bz2")
    return path.open("rb")


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        with _opened(path) as stream:
            while chunk := stream.read(CHUNK):
                yield chunk
    except (EOFError, zlib.error) as error:
        raise DataError(f"{path}: the compressed file is broken or cut short ({error})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def iter_pages(path: Path) -> Iterator[tuple[WikiPage, dict[int, str]]]:
    """Pages in file order, each with the wiki's names of its namespaces. Raises DataError naming the line."""
    handler = _Handler(str(path))
    parser: Any = handler.parser
    parser.StartElementHandler = handler.start
    parser.EndElementHandler = handler.end
    parser.CharacterDataHandler = handler.data
    for _ in feed(handler.parser, _chunks(path), str(path)):
        for page in handler.pages:
            yield page, handler.namespaces
        handler.pages.clear()


def read_wiki(
    path: Path, options: WikiOptions, log: DropLog, limit: int | None = None
) -> tuple[list[Document], Counter[str], int]:
    """Documents, how many articles are in each raw category, and how many pages were read."""
    kept: list[Document] = []
    seen: set[tuple[str, str | None]] = set()
    categories: Counter[str] = Counter()
    read = 0
    for page, namespaces in iter_pages(path):
        if limit is not None and len(kept) >= limit:
            log.note(f"stopped at {limit} names, as asked")
            break
        read += 1
        reason = _objection(page, options, namespaces)
        if reason is not None:
            log.drop("page", reason, page.title or f"page {page.id}")
            continue
        raw = categories_of(page.text, namespaces)
        categories.update(raw)
        label = _label(raw, options, page.title)
        if label is None and raw and options.unmapped == "drop":
            log.drop("page", "no category that the mapping knows", f"{page.title}: {', '.join(raw[:3])}")
            continue
        if label is None and not raw and options.mapping is not None and options.unmapped == "drop":
            log.drop("page", "no category", page.title)
            continue
        name = _QUALIFIER.sub("", page.title)
        if name != page.title:
            log.note("what tells pages of one name apart taken off, such as (elf)")
        wrong = objection(name)
        if wrong is not None:
            log.drop("page", f"title is no name: {wrong}", page.title)
        elif (key_of(name), label) in seen:
            log.drop("page", "name stands twice in its category", page.title)
        else:
            seen.add((key_of(name), label))
            kept.append(Document(name, label, f"{path.name}/{page.id or read}"))
    return kept, categories, read


def _objection(page: WikiPage, options: WikiOptions, namespaces: dict[int, str]) -> str | None:
    if page.namespace not in options.namespaces:
        return f"namespace {namespaces.get(page.namespace) or page.namespace}"
    if page.redirect or _REDIRECT.match(page.text):
        return "redirect"
    if page.too_long:
        return f"text longer than {MOST_PAGE_CHARS} characters"
    if not page.title:
        return "no title"
    if _LIST.match(page.title) or "/" in page.title:
        return "a list, or a page below another"
    if _DISAMBIGUATION.search(page.text):
        return "disambiguation page"
    if any("disambiguation" in name.casefold() for name in categories_of(page.text, namespaces)):
        return "disambiguation page"
    return None


def categories_of(text: str, namespaces: dict[int, str]) -> list[str]:
    """Categories of a page in their order, each once; those in comments and examples do not count."""
    words = {"category", namespaces.get(CATEGORY_NAMESPACE, "category").casefold()}
    found: dict[str, None] = {}
    for match in _LINK.finditer(_COMMENTS.sub("", text)):
        if match[1].casefold() in words:
            name = " ".join(html.unescape(match[2]).replace("_", " ").split())
            if name:
                found[name[0].upper() + name[1:]] = None
    return list(found)


def _label(raw: list[str], options: WikiOptions, title: str) -> str | None:
    """The category of a page; None where nothing fits."""
    if options.mapping is not None:
        for name in raw:
            group = options.mapping.group_of(name)
            if group is not None:
                return group
        if options.unmapped == "error" and raw:
            raise UserError(f"page {title!r}: the mapping knows none of its categories {', '.join(raw)}")
        if options.unmapped == "unknown":
            return UNKNOWN
        if options.unmapped == "drop":
            return None
    return raw[0] if raw else None


def mapping_template(categories: Counter[str], least: int = 2) -> str:
    """A mapping file to be edited: every raw category with at least `least` pages as a group of its own."""
    lines = [
        "# Raw categories of the wiki, most pages first. Edit: put labels into a group's list, delete the rest.",
        '# A label may hold * for any run of characters: Elves = ["Elves of *", "* elves"].',
        "",
        "[groups]",
    ]
    for name, count in sorted(categories.items(), key=lambda pair: (-pair[1], pair[0])):
        if count >= least:
            quoted = name.replace("\\", "\\\\").replace('"', '\\"')
            lines.append(f'"{quoted}" = [] # {count} pages')
    return "\n".join(lines) + "\n"
