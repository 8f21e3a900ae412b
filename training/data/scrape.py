"""Bring the pages of one site here, slowly and only those that it allows.

It asks for robots.txt first, keeps to one host, waits between requests, gives a name and an address for
complaints, asks for pages that it has with `If-None-Match` and `If-Modified-Since`, waits as long as
`Retry-After` says, and stops at a number of pages and of bytes. What comes is a folder of pages with a list of
them, `pages.jsonl`, which `inkwell data build` reads.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit, urlunsplit

from training.data.blocks import decoded, read_html
from training.data.pages import Page, PageStore
from training.data.polite import Answer, Polite
from training.data.report import DropLog, DropReport
from training.data.robots import Robots, robots_of
from training.errors import FetchError, UserError

TYPES = ("text/html", "application/xhtml+xml", "text/plain")
_MOST_FAILURES = 5  # in a row: then the site has trouble, and asking on would not help it
_MOST_REDIRECTS = 5
_MOST_URL_CHARS = 1000


@dataclass(frozen=True)
class ScrapeOptions:
    """pages: how many may be kept. total_bytes: of all answers together. depth: links from the first page.
    match: only addresses in which this pattern is found. queries: also addresses with a `?`. fresh: seconds for
    which a page that is here is not asked for again."""

    pages: int = 200
    total_bytes: int = 100_000_000
    depth: int = 3
    match: str = ""
    queries: bool = False
    fresh: float = 86_400.0

    def __post_init__(self) -> None:
        for name, least in (("pages", 1), ("total_bytes", 1), ("depth", 0)):
            if getattr(self, name) < least:
                raise UserError(f"{name} is {getattr(self, name)}; it must be {least} or more")
        try:
            re.compile(self.match)
        except re.error as error:
            raise UserError(f"match is {self.match!r}, which is no regular expression ({error})") from None


def normal_url(url: str) -> str:
    """One spelling for one page: no fragment, host in lower case, no default port, a path."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if ":" in host:
        host = f"[{host}]"
    port = parts.port
    default = {"http": 80, "https": 443}.get(parts.scheme)
    netloc = host if port in (None, default) else f"{host}:{port}"
    return urlunsplit((parts.scheme, netloc, parts.path or "/", parts.query, ""))


def _joined(base: str, link: str) -> str:
    """The whole address of a link; one that is broken stays as it is, and is counted later."""
    try:
        return urljoin(base, link)
    except ValueError:
        return link


def checked_start(url: str) -> str:
    """An address to begin with. Raises UserError for what is no page on the web."""
    try:
        normal = normal_url(url)
    except ValueError as error:
        raise UserError(f"{url!r} is no address ({error})") from None
    if urlsplit(normal).scheme not in ("http", "https") or not urlsplit(normal).hostname:
        raise UserError(f"{url!r} is no address; it must begin with https:// or http:// and name a host")
    return normal


@dataclass
class Scraper:
    """One run over one site. `run` may be called once."""

    store: PageStore
    polite: Polite
    options: ScrapeOptions = field(default_factory=ScrapeOptions)
    say: Callable[[str], None] = lambda _: None

    def run(self, start: str) -> DropReport:
        """Fetch from `start` on, near pages first. Raises UserError, and FetchError when the site cannot be
        asked or forbids `start`; what came until then is kept."""
        first = checked_start(start)
        self._origin = urlsplit(first)[:2]
        self._log = DropLog()
        self._failures = 0
        robots = self._robots(first)
        self.polite.delay = max(self.polite.delay, robots.delay)
        if not robots.allows(first):
            raise FetchError(f"{first}: the site's robots.txt does not allow this page")
        waiting: deque[tuple[str, int]] = deque([(first, 0)])
        known = {first}
        kept = 0
        try:
            while waiting:
                url, depth = waiting.popleft()
                if kept >= self.options.pages or self.polite.received >= self.options.total_bytes:
                    limit = "pages" if kept >= self.options.pages else "bytes"
                    for left, _ in ((url, depth), *waiting):
                        self._log.drop("address", f"beyond the limit of {limit}", left)
                    break
                page = self._page(url, robots)
                if page is None:
                    continue
                kept += not page.noindex
                if depth < self.options.depth and not page.nofollow:
                    for link in self._links(page, robots):
                        if link not in known:
                            known.add(link)
                            waiting.append((link, depth + 1))
        finally:
            self.store.save()
        if not kept:
            raise FetchError(f"{first}: no page could be kept; {self._reasons()}")
        return self._log.freeze(first, len(known), kept, "addresses")

    def _reasons(self) -> str:
        drops = self._log.freeze("", 0, 0, "addresses").drops
        return "; ".join(f"{drop.reason}: {drop.examples[0]}" for drop in drops) or "nothing was there"

    def _robots(self, first: str) -> Robots:
        where = urljoin(first, "/robots.txt")
        url = where
        for _ in range(_MOST_REDIRECTS):
            answer = self.polite.get(url)
            target = self._redirected(answer, url)
            if target is None:
                return robots_of(answer.status, answer.body, where, self.polite.agent)
            url = target
        raise FetchError(f"{where}: redirects without end")

    def _redirected(self, answer: Answer, url: str) -> str | None:
        """Where an answer sends on to, on the same host; None when it does not."""
        location = answer.headers.get("location")
        if answer.status not in (301, 302, 303, 307, 308) or not location:
            return None
        target = normal_url(urljoin(url, location))
        if urlsplit(target).netloc != self._origin[1]:
            raise FetchError(f"{url}: redirects to another host ({urlsplit(target).netloc or target})")
        return target

    def _page(self, url: str, robots: Robots) -> Page | None:
        """The page at `url`, from here or from the site; None when it is left out."""
        have = self.store.find(url)
        if have is not None and self.store.age(have) < self.options.fresh:
            self._log.note("pages that were here and are still fresh")
            return have
        try:
            answer = self._follow(url, robots, have)
        except FetchError as error:
            self._log.drop("address", "could not be fetched", str(error))
            self._failures += 1
            if self._failures >= _MOST_FAILURES:
                raise FetchError(f"{_MOST_FAILURES} addresses in a row failed; the last: {error}") from None
            return None
        self._failures = 0
        if answer is None:
            return None
        if answer.status == 304 and have is not None:
            self._log.note("pages that have not changed")
            return self.store.touch(have)
        reason = self._unwanted(answer)
        if reason is not None:
            self._log.drop("address", reason, url)
            return None
        page = self._stored(url, answer)
        self._log.note("pages fetched")
        self.say(f"{page.file} ({len(answer.body)} bytes)")
        return page

    def _follow(self, url: str, robots: Robots, have: Page | None) -> Answer | None:
        """The last answer of a chain of redirects; None when one of them is not allowed."""
        at = url
        for _ in range(_MOST_REDIRECTS):
            answer = self.polite.get(at, self.store.conditions(have) if at == url else {})
            target = self._redirected(answer, at)
            if target is None:
                return answer
            if not robots.allows(target):
                self._log.drop("address", "robots.txt does not allow it", target)
                return None
            self._log.note("redirects followed")
            at = target
        raise FetchError(f"{url}: redirects without end")

    def _unwanted(self, answer: Answer) -> str | None:
        if answer.status != 200:
            return f"the site answers {answer.status}"
        if answer.cut:
            return f"larger than {self.polite.page_bytes} bytes"
        kind = answer.media_type
        return None if kind in TYPES else f"not a page ({kind or 'no type given'})"

    def _stored(self, url: str, answer: Answer) -> Page:
        asked = {word.strip() for word in answer.headers.get("x-robots-tag", "").lower().split(",")}
        title = ""
        links: list[str] = []
        if answer.media_type != "text/plain":
            read = read_html(decoded(answer.body, answer.charset))
            asked |= read.robots
            title = read.title
            base = _joined(url, read.base) if read.base else url
            links = [_joined(base, link) for link, nofollow in read.links if not nofollow]
        noindex = bool(asked & {"noindex", "none"})
        if noindex:
            self._log.drop("address", "the page asks not to be kept (noindex)", url)
        return self.store.add(
            url,
            b"" if noindex else answer.body,
            answer,
            title=title,
            links=tuple(dict.fromkeys(links)),
            noindex=noindex,
            nofollow=bool(asked & {"nofollow", "none"}),
        )

    def _links(self, page: Page, robots: Robots) -> Iterator[str]:
        """Addresses on a page that may be asked for; each of the others is counted."""
        for link in page.links:
            try:
                url = normal_url(link)
            except ValueError:
                self._log.drop("address", "not an address", link)
                continue
            reason = self._not_wanted(url, robots)
            if reason is None:
                yield url
            else:
                self._log.drop("address", reason, url)

    def _not_wanted(self, url: str, robots: Robots) -> str | None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            return "not a page on the web"
        if (parts.scheme, parts.netloc) != self._origin:
            return "another host"
        if len(url) > _MOST_URL_CHARS:
            return f"longer than {_MOST_URL_CHARS} characters"
        if parts.query and not self.options.queries:
            return "has a query"
        if self.options.match and not re.search(self.options.match, url):
            return "does not match"
        return None if robots.allows(url) else "robots.txt does not allow it"
