"""Fetching from local folders and from a real HTTP server that knows byte ranges and can hang up."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from training.data.fetch import Fetcher, cut_books, open_source
from training.data.sources import SOURCES_DIR, SourceSpec, find_source, list_sources, read_spec
from training.errors import DataError, FetchError, IntegrityError, UserError


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Site:
    """What the server has, where it hangs up (bytes sent), and the ranges it was asked for."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    tags: bool = True
    hang_up_after: int | None = None
    ranges: list[str | None] = field(default_factory=list)


@pytest.fixture
def site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            place.ranges.append(self.headers.get("Range"))
            data = place.files.get(self.path.lstrip("/"))
            if data is None:
                self.send_error(404)
                return
            tag, start = f'"{digest(data)}"', 0
            asked = self.headers.get("Range")
            if asked and self.headers.get("If-Range") == tag:
                start = int(asked.removeprefix("bytes=").rstrip("-"))
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            if place.tags:
                self.send_header("ETag", tag)
            self.end_headers()
            end = len(data) if place.hang_up_after is None else start + place.hang_up_after
            self.wfile.write(data[start:end])

        def log_message(self, *_: object) -> None:
            """Keep the test output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    place = Site(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield place
    server.shutdown()
    server.server_close()
    thread.join()


Make = Callable[..., SourceSpec]
NAMES = b"name,category\nAnn,Elf\nBo,Orc\n"


@pytest.fixture
def spec(tmp_path: Path) -> Make:
    """A catalogue entry of one CSV file; `sha256=None` leaves the hash out, `output` is TOML."""

    def make(
        url: str = "http://127.0.0.1:9",
        sha256: str | None = digest(NAMES),
        output: str = "",
        file: str = "n.csv",
    ) -> SourceSpec:
        path = tmp_path / "catalogue" / "names.toml"
        path.parent.mkdir(exist_ok=True)
        known = f'sha256 = "{sha256}"\n' if sha256 else ""
        path.write_text(
            f'title = "Names"\nfolder = "lists"\nlicence = "MIT"\n[[files]]\nname = "n.csv"\n'
            f'url = "{url}/n.csv"\n{known}{output}\n[corpus]\nfile = "{file}"\nkind = "documents"\n',
            encoding="utf-8",
        )
        return read_spec(path)

    return make


def fetcher(
    tmp_path: Path, mirror: Path | None = None, said: list[str] | None = None, strict: bool = False
) -> Fetcher:
    return Fetcher(tmp_path / "data", mirror, strict, (said if said is not None else []).append)


def test_download_is_checked_and_read_with_its_origin(tmp_path: Path, site: Site, spec: Make) -> None:
    site.files["n.csv"] = NAMES
    fetched = fetcher(tmp_path).fetch(spec(site.url))
    assert fetched.verified
    assert fetched.path == tmp_path / "data" / "names" / "n.csv"
    corpus = open_source(fetched)
    assert [(d.text, d.category) for d in corpus.documents] == [("Ann", "Elf"), ("Bo", "Orc")]
    assert (corpus.sources[0].licence, corpus.sources[0].url) == ("MIT", f"{site.url}/n.csv")


def test_second_fetch_asks_nobody(tmp_path: Path, site: Site, spec: Make) -> None:
    site.files["n.csv"] = NAMES
    fetcher(tmp_path).fetch(spec(site.url))
    fetcher(tmp_path).fetch(spec(site.url))
    assert len(site.ranges) == 1


def test_damaged_copy_is_fetched_again(tmp_path: Path, site: Site, spec: Make) -> None:
    site.files["n.csv"] = NAMES
    path = fetcher(tmp_path).fetch(spec(site.url)).path
    path.write_bytes(b"damaged")
    said: list[str] = []
    fetcher(tmp_path, said=said).fetch(spec(site.url))
    assert path.read_bytes() == NAMES
    assert said == ["n.csv: the copy in the cache is damaged, fetching it again"]


def test_wrong_content_is_refused_and_not_kept(tmp_path: Path, site: Site, spec: Make) -> None:
    site.files["n.csv"] = b"other"
    with pytest.raises(IntegrityError, match="not the recorded file"):
        fetcher(tmp_path).fetch(spec(site.url))
    assert list((tmp_path / "data" / "names").iterdir()) == []


def test_cut_download_goes_on_where_it_stopped(tmp_path: Path, site: Site, spec: Make) -> None:
    data = b"name\n" + b"Ann\n" * 100_000
    site.files["n.csv"], site.hang_up_after = data, 150_000
    with pytest.raises(FetchError, match="run it again"):
        fetcher(tmp_path).fetch(spec(site.url, digest(data)))
    assert not (tmp_path / "data" / "names" / "n.csv").exists()
    site.hang_up_after = None
    path = fetcher(tmp_path).fetch(spec(site.url, digest(data))).path
    assert path.read_bytes() == data
    assert site.ranges[0] is None
    start = int(str(site.ranges[1]).removeprefix("bytes=").rstrip("-"))
    assert 0 < start <= 150_000
    assert [p.name for p in path.parent.iterdir()] == ["n.csv"]


def test_part_of_another_version_is_not_continued(tmp_path: Path, site: Site, spec: Make) -> None:
    site.files["n.csv"], site.hang_up_after = b"old version " * 10_000, 70_000
    new = b"name\n" + b"New\n" * 30_000
    with pytest.raises(FetchError):
        fetcher(tmp_path).fetch(spec(site.url, digest(new)))
    site.files["n.csv"], site.hang_up_after = new, None
    assert fetcher(tmp_path).fetch(spec(site.url, digest(new))).path.read_bytes() == new


def test_part_without_a_tag_is_started_over(tmp_path: Path, site: Site, spec: Make) -> None:
    data = b"name\n" + b"Ann\n" * 50_000
    site.files["n.csv"], site.hang_up_after, site.tags = data, 100_000, False
    with pytest.raises(FetchError):
        fetcher(tmp_path).fetch(spec(site.url, digest(data)))
    site.hang_up_after = None
    assert fetcher(tmp_path).fetch(spec(site.url, digest(data))).path.read_bytes() == data
    assert site.ranges == [None, None]


def test_missing_file_and_missing_net_are_told_apart(tmp_path: Path, site: Site, spec: Make) -> None:
    with pytest.raises(FetchError, match="HTTP 404"):
        fetcher(tmp_path).fetch(spec(site.url))
    with pytest.raises(FetchError, match=r"cannot reach .* --mirror"):
        fetcher(tmp_path).fetch(spec("http://127.0.0.1:9"))


def test_file_without_a_hash_is_pinned_at_first_sight(tmp_path: Path, site: Site, spec: Make) -> None:
    site.files["n.csv"] = NAMES
    said: list[str] = []
    fetched = fetcher(tmp_path, said=said).fetch(spec(site.url, None))
    assert not fetched.verified
    assert said == [f"n.csv: no hash is recorded for it; trusted this once and pinned as {digest(NAMES)}"]
    assert (fetched.path.parent / "n.csv.sha256").read_text() == f"{digest(NAMES)}  n.csv\n"
    fetched.path.write_bytes(b"changed")
    with pytest.raises(IntegrityError, match="the first download had"):
        fetcher(tmp_path).fetch(spec(site.url, None))
    fetched.path.unlink()
    site.files["n.csv"] = b"replaced on the server"
    with pytest.raises(IntegrityError, match="not the recorded file"):
        fetcher(tmp_path).fetch(spec(site.url, None))


@pytest.mark.parametrize("place", [".", "names", "lists"])
def test_mirror_replaces_the_net(tmp_path: Path, spec: Make, place: str) -> None:
    mirror = tmp_path / "mirror"
    (mirror / place).mkdir(parents=True)
    (mirror / place / "n.csv").write_bytes(NAMES)
    assert fetcher(tmp_path, mirror).fetch(spec()).path.read_bytes() == NAMES


def test_mirror_is_checked_and_never_left_for_the_net(tmp_path: Path, site: Site, spec: Make) -> None:
    site.files["n.csv"] = NAMES
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    with pytest.raises(FetchError, match=r"not in the mirror; looked for .*mirror/n\.csv"):
        fetcher(tmp_path, mirror).fetch(spec(site.url))
    (mirror / "n.csv").write_bytes(b"other")
    with pytest.raises(IntegrityError, match=f"has sha256 {digest(b'other')}"):
        fetcher(tmp_path, mirror).fetch(spec(site.url))
    assert site.ranges == []


JSON = b'[{"title": "Gods", "values": ["an", "ki"]}]'
MADE = b"name,category\r\nAn,Gods\r\nKi,Gods\r\n"


def derived(sha256: str | None) -> str:
    known = f'sha256 = "{sha256}"\n' if sha256 else ""
    return f'[output]\nname = "gods.csv"\nrecipe = "fantasygen_names"\n{known}'


def test_derived_file_is_made_from_its_parts_and_checked(tmp_path: Path, site: Site, spec: Make) -> None:
    site.files["n.csv"] = JSON
    fetched = fetcher(tmp_path).fetch(spec(site.url, digest(JSON), derived(digest(MADE)), "gods.csv"))
    assert fetched.verified
    assert fetched.path.read_bytes() == MADE
    assert [d.text for d in open_source(fetched).documents] == ["An", "Ki"]


def test_derived_file_in_the_mirror_needs_no_parts(tmp_path: Path, spec: Make) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "gods.csv").write_bytes(MADE)
    one = spec(sha256=digest(JSON), output=derived(digest(MADE)), file="gods.csv")
    assert fetcher(tmp_path, mirror).fetch(one).path.read_bytes() == MADE
    (mirror / "gods.csv").write_bytes(b"other")
    (tmp_path / "data" / "names" / "gods.csv").unlink()
    with pytest.raises(IntegrityError, match=r"gods\.csv: has sha256"):
        fetcher(tmp_path, mirror).fetch(one)


def test_derived_file_that_differs_is_a_notice_or_an_error(tmp_path: Path, site: Site, spec: Make) -> None:
    site.files["n.csv"] = JSON
    one = spec(site.url, digest(JSON), derived("0" * 64), "gods.csv")
    said: list[str] = []
    fetched = fetcher(tmp_path, said=said).fetch(one)
    assert not fetched.verified
    assert said[-1].startswith(f"gods.csv: has sha256 {digest(MADE)}, the catalogue says 0000")
    with pytest.raises(IntegrityError, match=r"gods\.csv"):
        fetcher(tmp_path, strict=True).fetch(one)


def test_books_are_cut_at_their_titles_in_order() -> None:
    text = "ONE\n\nThe two.\n\n\nTWO\n\nEnd.\n\n\nTWO\nagain\n"
    books = cut_books(text, ("ONE", "TWO"), Path("x"))
    assert [(b.group, b.text) for b in books] == [
        ("ONE", "ONE\n\nThe two."),
        ("TWO", "TWO\n\nEnd.\n\n\nTWO\nagain"),
    ]
    with pytest.raises(DataError, match="the book 'THREE' is not there"):
        cut_books(text, ("ONE", "THREE"), Path("x"))


def test_catalogue_that_ships_is_whole() -> None:
    specs = list_sources()
    assert {"anna", "souls_pd", "names_azgaar", "names_makemore", "tinystories_full"} <= {
        spec.name for spec in specs
    }
    assert all(spec.licence and spec.title for spec in specs)
    for spec in specs:
        for file in spec.files:
            # without a hash a file must be pinned by a commit, or be the one data set that has none
            assert (
                file.sha256
                or "raw.githubusercontent.com" in file.url
                or spec.name.startswith("tinystories_full")
            )


def test_unknown_name_is_refused_with_near_ones() -> None:
    with pytest.raises(UserError, match="no corpus is named 'ana'; did you mean anna"):
        find_source("ana")
    with pytest.raises(UserError, match="there are anna"):
        find_source("../../etc/passwd")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('title = "Names"', "title = "), "Invalid value"),
        (('title = "Names"\n', ""), "title"),
        (('licence = "MIT"', 'license = "MIT"'), "unknown keys license; known are .*licence"),
        (('name = "n.csv"', 'name = "../n.csv"'), "without a folder"),
        (('sha256 = "', 'sha256 = "Z'), "64 hexadecimal digits"),
        (('url = "http://', 'url = "file://'), "must begin with https"),
        (('kind = "documents"', 'kind = "novel"'), "kind is 'novel'; allowed are stream, documents"),
        (('file = "n.csv"', 'file = "m.csv"'), "file is 'm.csv'"),
        (
            ("[corpus]", '[output]\nname = "x"\nrecipe = "stew"\n[corpus]'),
            "recipe is 'stew'; allowed are gutenberg",
        ),
    ],
)
def test_bad_catalogue_entry_is_refused(
    tmp_path: Path, spec: Make, change: tuple[str, str], message: str
) -> None:
    spec()
    path = tmp_path / "catalogue" / "names.toml"
    text = path.read_text(encoding="utf-8")
    assert change[0] in text
    path.write_text(text.replace(*change), encoding="utf-8")
    with pytest.raises(DataError, match=rf"names\.toml: .*{message}"):
        read_spec(path)


def test_catalogue_lies_inside_the_package() -> None:
    assert SOURCES_DIR.name == "sources"
    assert SOURCES_DIR.parent.name == "training"
