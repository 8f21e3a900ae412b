"""A folder of scraped pages: files in folders like their addresses, and `pages.jsonl` that lists them."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from training.data.polite import Answer
from training.data.textio import TextOptions, iter_lines, write_atomically
from training.errors import DataError, UserError

INDEX = "pages.jsonl"
_MOST_NAME_CHARS = 80


@dataclass(frozen=True)
class Page:
    """One page. `file` is its path in the folder, "" for a page that asks not to be kept; `links` are whole
    addresses; `fetched` is in seconds since 1970."""

    url: str
    file: str
    title: str = ""
    type: str = ""
    charset: str = ""
    sha256: str = ""
    etag: str = ""
    modified: str = ""
    fetched: float = 0.0
    links: tuple[str, ...] = ()
    noindex: bool = False
    nofollow: bool = False


def read_index(folder: Path) -> list[Page]:
    """The pages that a folder lists. Raises DataError naming the line; a folder without a list has none."""
    path = folder / INDEX
    if not path.is_file():
        return []
    known = {item.name for item in fields(Page)}
    pages = []
    for number, line in enumerate(iter_lines(path, TextOptions()), 1):
        try:
            values = json.loads(line)
            if not isinstance(values, dict) or not known >= set(values):
                raise ValueError("an object with the fields " + ", ".join(sorted(known)) + " is needed")
            page = Page(**{**values, "links": tuple(values.get("links", ()))})
        except (ValueError, TypeError) as error:
            raise DataError(f"{path}, line {number}: {error}") from None
        if page.file and (Path(page.file).is_absolute() or ".." in Path(page.file).parts):
            raise DataError(f"{path}, line {number}: file {page.file!r} lies outside of the folder")
        pages.append(page)
    return pages


@dataclass
class PageStore:
    """The growing folder."""

    folder: Path
    clock: Callable[[], float] = time.time
    _pages: dict[str, Page] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{self.folder} is not a folder")
        self._pages = {page.url: page for page in read_index(self.folder)}

    def find(self, url: str) -> Page | None:
        """What is here of `url`; a page whose file has gone is not here."""
        page = self._pages.get(url)
        if page is None or (page.file and not (self.folder / page.file).is_file()):
            return None
        return page

    def age(self, page: Page) -> float:
        """Seconds since a page was last asked for."""
        return max(0.0, self.clock() - page.fetched)

    @staticmethod
    def conditions(page: Page | None) -> dict[str, str]:
        """Headers that ask for a page only if it has changed."""
        if page is None:
            return {}
        found = {"If-None-Match": page.etag, "If-Modified-Since": page.modified}
        return {name: value for name, value in found.items() if value}

    def touch(self, page: Page) -> Page:
        """A page that has not changed."""
        self._pages[page.url] = replace(page, fetched=self.clock())
        return self._pages[page.url]

    def add(
        self,
        url: str,
        body: bytes,
        answer: Answer,
        *,
        title: str,
        links: tuple[str, ...],
        noindex: bool,
        nofollow: bool,
    ) -> Page:
        """Keep a page, or of one that asks not to be kept only its links. Raises UserError when the folder
        cannot be written to."""
        file = "" if noindex else file_of(url, answer.media_type)
        if file:
            path = self.folder / file
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(body)
            except OSError as error:
                raise UserError(f"{path}: cannot be written ({error.strerror})") from None
        page = Page(
            url,
            file,
            title,
            answer.media_type,
            answer.charset or "",
            hashlib.sha256(body).hexdigest() if file else "",
            answer.headers.get("etag", ""),
            answer.headers.get("last-modified", ""),
            self.clock(),
            links,
            noindex,
            nofollow,
        )
        self._pages[url] = page
        return page

    def save(self) -> None:
        """Write the list."""
        lines = (json.dumps(asdict(page), ensure_ascii=False) + "\n" for page in self._pages.values())
        write_atomically(self.folder / INDEX, lines)


def file_of(url: str, media_type: str) -> str:
    """A path for an address: readable, safe, and another one for every address."""
    parts = urlsplit(url)
    pieces = [re.sub(r"[^\w.-]+", "_", unquote(piece)).strip("._") for piece in parts.path.split("/")]
    pieces = [piece[:_MOST_NAME_CHARS] for piece in pieces if piece]
    stem = pieces.pop() if pieces and not parts.path.endswith("/") else "index"
    for ending in (".html", ".htm", ".xhtml", ".txt"):
        stem = stem.removesuffix(ending)
    # two addresses may read alike once odd signs are gone, and a page may also be a folder
    mark = hashlib.sha256(url.encode()).hexdigest()[:8]
    ending = ".txt" if media_type == "text/plain" else ".html"
    return "/".join([*pieces, f"{stem}-{mark}{ending}"])
