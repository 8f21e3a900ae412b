"""Scraping a real HTTP server that has robots.txt, tags of its pages, and moods."""

from __future__ import annotations

import email.utils
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from training.data.load import LoadOptions, load
from training.data.pages import INDEX, PageStore, file_of, read_index
from training.data.polite import Polite
from training.data.report import DropReport
from training.data.robots import parse_robots
from training.data.scrape import ScrapeOptions, Scraper, checked_start, normal_url
from training.errors import DataError, FetchError, UserError

HTML = {"Content-Type": "text/html; charset=utf-8"}
Reply = tuple[int, dict[str, str], bytes]


@dataclass
class Site:
    """What the server has by path, and what it was asked. `moods`: replies to be given first, once each."""

    url: str
    pages: dict[str, Reply] = field(default_factory=dict)
    moods: dict[str, list[Reply]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def page(self, path: str, body: str, **headers: str) -> None:
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        self.pages[path] = (200, HTML | {"ETag": f'"{abs(hash(body))}"'} | more, body.encode())

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


@pytest.fixture
def site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            place.asked.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
            waiting = place.moods.get(self.path)
            status, headers, body = (
                waiting.pop(0) if waiting else place.pages.get(self.path, (404, HTML, b"<p>not here"))
            )
            if status == 200 and self.headers.get("If-None-Match") == headers.get("ETag", "none"):
                status, body = 304, b""
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep the test output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    place = Site(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield place
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


Run = Callable[..., DropReport]


@pytest.fixture
def run(site: Site, tmp_path: Path) -> Run:
    """Scrape into tmp_path/pages; pauses are noted in `run.pauses` instead of being made."""
    pauses: list[float] = []

    def scrape(
        start: str = "/", clock: float = 1000.0, delay: float = 0.0, patience: float = 60.0, **options: Any
    ) -> Any:
        page_bytes = options.pop("page_bytes", 10_000)
        with Polite("me@example.org", delay, page_bytes, patience, sleep=pauses.append) as polite:
            store = PageStore(tmp_path / "pages", clock=lambda: clock)
            return Scraper(store, polite, ScrapeOptions(**options)).run(site.url + start)

    scrape.pauses = pauses  # type: ignore[attr-defined]
    return scrape


def test_pages_are_followed_kept_and_read_as_names(site: Site, run: Run, tmp_path: Path) -> None:
    site.page(
        "/",
        "<title>Names</title><nav><a href=elves.html>e</a><a href=/dwarves/>d</a></nav><h1>Giants</h1><li>Grub",
    )
    site.page(
        "/elves.html", "<h1>Elven Names</h1><ul><li>Aino<li>Bela</ul><footer><a href='/'>home</a></footer>"
    )
    site.page("/dwarves/", "<h1>Dwarves</h1><p>Borin, Durak</p>")
    report = run()
    assert (report.kept, report.read) == (3, 3)
    assert site.paths == ["/robots.txt", "/", "/elves.html", "/dwarves/"]
    corpus = load(tmp_path / "pages", "documents", LoadOptions(names=True))
    assert [(d.text, d.category) for d in corpus.documents] == [
        ("Grub", "Giants"),
        ("Aino", "Elven"),
        ("Bela", "Elven"),
        ("Borin", "Dwarves"),
        ("Durak", "Dwarves"),
    ]
    assert [source.url for source in corpus.sources] == [
        site.url + p for p in ("/", "/elves.html", "/dwarves/")
    ]


def test_it_says_who_it_is_and_whom_to_write_to(site: Site, run: Run) -> None:
    site.page("/", "<p>Aino")
    run()
    assert all(h["user-agent"].startswith("inkwell/") for _, h in site.asked)
    assert all("(+me@example.org)" in h["user-agent"] for _, h in site.asked)
    with pytest.raises(UserError, match="an e-mail address or a web page"):
        Polite("nobody")


def test_robots_txt_is_obeyed_with_its_wildcards_and_its_delay(site: Site, run: Run) -> None:
    site.pages["/robots.txt"] = (
        200,
        {"Content-Type": "text/plain"},
        b"User-agent: *\nDisallow: /\n\nUser-agent: inkwell\nDisallow: /private\nDisallow: /*.pdf$\n"
        b"Allow: /private/ok\nCrawl-delay: 7\n",
    )
    site.page("/", "<a href=/private/a>1</a><a href=/x.pdf>2</a><a href=/private/ok>3</a>")
    site.page("/private/ok", "<p>Aino")
    report = run()
    assert site.paths == ["/robots.txt", "/", "/private/ok"]
    assert report.dropped("robots.txt does not allow it") == 2
    assert len(run.pauses) == 2  # type: ignore[attr-defined]
    assert all(6 < pause <= 7 for pause in run.pauses)  # type: ignore[attr-defined]


def test_a_site_that_forbids_the_first_page_or_is_in_trouble_is_left_alone(site: Site, run: Run) -> None:
    site.page("/", "<p>Aino")
    site.pages["/robots.txt"] = (200, {}, b"User-agent: *\nDisallow: /")
    with pytest.raises(FetchError, match=r"robots\.txt does not allow this page"):
        run()
    site.pages["/robots.txt"] = (503, {}, b"")
    with pytest.raises(FetchError, match="answers 503: nobody knows what the site allows"):
        run()
    assert "/" not in site.paths


def test_only_the_same_host_and_pages_are_taken(site: Site, run: Run) -> None:
    site.page(
        "/",
        "<a href='http://other.example/'>1</a><a href='mailto:a@b.c'>2</a><a href='/q?x=1'>3</a>"
        "<a href='/image'>4</a><a href='/same#a'>5</a><a href='/same#b'>6</a><a rel=nofollow href='/no'>7</a>"
        "<a href='http://[bad/'>8</a><a href='/gone'>9</a><a href='//127.0.0.1:1/'>10</a>",
    )
    site.pages["/image"] = (200, {"Content-Type": "image/png"}, b"x")
    site.page("/same", "<p>Aino")
    report = run()
    assert site.paths == ["/robots.txt", "/", "/image", "/same", "/gone"]
    assert report.dropped("another host") == 2
    assert report.dropped("not a page on the web") == 1
    assert report.dropped("has a query") == 1
    assert report.dropped("not a page (image/png)") == 1
    assert report.dropped("not an address") == 1
    assert report.dropped("the site answers 404") == 1


def test_redirects_stay_on_the_host_and_end(site: Site, run: Run) -> None:
    site.page("/", "<a href=/moved>1</a><a href=/away>2</a><a href=/round>3</a>")
    site.pages["/moved"] = (301, {"Location": "/there"}, b"")
    site.page("/there", "<p>Aino")
    site.pages["/away"] = (302, {"Location": "http://other.example/"}, b"")
    site.pages["/round"] = (302, {"Location": "/round"}, b"")
    report = run()
    assert report.kept == 2
    assert report.dropped("could not be fetched") == 2
    reasons = next(drop.examples for drop in report.drops if drop.reason == "could not be fetched")
    assert "redirects to another host (other.example)" in reasons[0]
    assert "redirects without end" in reasons[1]


def test_pages_depth_bytes_and_patterns_are_bounds(site: Site, run: Run) -> None:
    site.page("/", "".join(f"<a href=/p{n}>x</a>" for n in range(6)))
    for n in range(6):
        site.page(f"/p{n}", f"<a href=/deep{n}>x</a>" + "y" * 400)
    assert run(pages=3).kept == 3
    assert len(site.paths) == 4
    assert run(depth=0, clock=9e9).kept == 1
    assert run(match="/p[12]$", clock=9e9).kept == 3
    limited = run(total_bytes=700, clock=9e9)
    assert limited.kept < 7
    assert limited.dropped("beyond the limit of bytes") > 0
    site.page("/", "<a href=/huge>x</a>")
    site.page("/huge", "z" * 20_000)
    assert run(clock=9.1e9).dropped("larger than 10000 bytes") == 1


def test_unchanged_pages_are_not_sent_again_and_fresh_ones_not_asked_for(
    site: Site, run: Run, tmp_path: Path
) -> None:
    site.page("/", "<a href=/a>a</a>", Last_Modified="Sat, 01 Jan 2022 00:00:00 GMT")
    site.page("/a", "<p>Aino")
    run(clock=1000.0)
    again = run(clock=2000.0)
    assert site.paths.count("/") == 1
    assert again.kept == 2
    assert again.noted("pages that were here and are still fresh") == 2
    site.page("/a", "<p>Bela")
    later = run(clock=1000.0 + 90_000)
    asked = [headers for path, headers in site.asked if path == "/"][-1]
    assert asked["if-none-match"] == site.pages["/"][1]["ETag"]
    assert asked["if-modified-since"] == "Sat, 01 Jan 2022 00:00:00 GMT"
    assert later.noted("pages that have not changed") == 1
    assert later.noted("pages fetched") == 1
    listed = {page.url: page for page in read_index(tmp_path / "pages")}
    assert (tmp_path / "pages" / listed[f"{site.url}/a"].file).read_text() == "<p>Bela"


@pytest.mark.parametrize("asked", ["5", "date"])
def test_retry_after_is_waited_for(site: Site, run: Run, asked: str) -> None:
    import time

    value = asked if asked == "5" else email.utils.formatdate(time.time() + 30, usegmt=True)
    site.page("/", "<p>Aino")
    site.moods["/"] = [(429, {"Retry-After": value}, b""), (503, {}, b"")]
    assert run().kept == 1
    first, second = run.pauses  # type: ignore[attr-defined]
    assert first == 5 if asked == "5" else 20 < first <= 30
    assert second == 1.0


def test_a_site_that_wants_more_patience_than_there_is_is_given_up(site: Site, run: Run) -> None:
    site.moods["/"] = [(429, {"Retry-After": "3600"}, b"")]
    with pytest.raises(FetchError, match="asks for 3600 s; --patience allows 60"):
        run()


def test_trouble_in_a_row_ends_the_run_and_keeps_what_came(site: Site, run: Run, tmp_path: Path) -> None:
    site.page("/", "".join(f"<a href=/p{n}>x</a>" for n in range(9)) + "<p>Aino")
    for n in range(9):
        site.pages[f"/p{n}"] = (500, {}, b"")
    with pytest.raises(FetchError, match="5 addresses in a row failed"):
        run()
    assert sum(path.startswith("/p") for path in site.paths) == 5 * 4
    assert len(read_index(tmp_path / "pages")) == 1


def test_a_page_may_ask_not_to_be_kept_or_followed(site: Site, run: Run, tmp_path: Path) -> None:
    site.page("/", "<meta name=robots content=noindex><a href=/a>a</a><a href=/b>b</a>")
    site.page("/a", "<a href=/c>c</a>", X_Robots_Tag="nofollow")
    site.page("/b", "<meta name=robots content=none><a href=/d>d</a>")
    report = run()
    assert report.kept == 1
    assert "/c" not in site.paths
    assert "/d" not in site.paths
    assert [page.url for page in read_index(tmp_path / "pages") if page.file] == [f"{site.url}/a"]


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    with Polite("me@example.org", 0, sleep=lambda _: None, timeout=2) as polite:
        scraper = Scraper(PageStore(tmp_path / "pages"), polite)
        with pytest.raises(FetchError, match=r"http://127\.0\.0\.1:9/robots\.txt: cannot be reached"):
            scraper.run("http://127.0.0.1:9/")


@pytest.mark.parametrize("url", ["names.html", "ftp://a.b/", "http://", "http://[x"])
def test_a_start_that_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="is no address"):
        checked_start(url)


def test_one_page_has_one_spelling_and_every_address_a_file_of_its_own() -> None:
    assert normal_url("HTTP://Example.ORG:80/a#b") == "http://example.org/a"
    assert normal_url("https://example.org") == "https://example.org/"
    names = [
        file_of(url, "text/html")
        for url in (
            "http://a/x",
            "http://a/x/",
            "http://a/x?y",
            "http://a/../x",
            "http://a/%2e%2e/x",
            "http://a/" + "l" * 900,
        )
    ]
    assert len(set(names)) == len(names)
    assert all(".." not in name and len(name) < 120 and not name.startswith("/") for name in names)


def test_the_list_of_pages_is_checked(tmp_path: Path) -> None:
    listed = tmp_path / INDEX
    listed.write_text(json.dumps({"url": "http://a/", "file": "../../etc/passwd"}) + "\n")
    with pytest.raises(DataError, match="lies outside of the folder"):
        read_index(tmp_path)
    listed.write_text('{"urll": 1}\n')
    with pytest.raises(DataError, match="line 1"):
        read_index(tmp_path)


def test_rules_know_delays_and_rates() -> None:
    rules = parse_robots("User-agent: *\nRequest-rate: 1/20\n", "inkwell")
    assert rules.delay == 20
    assert parse_robots("", "inkwell").allows("http://a/b")
