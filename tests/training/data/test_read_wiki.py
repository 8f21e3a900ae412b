from __future__ import annotations

import bz2
import gzip
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from training.data.grouping import Grouping, load_grouping
from training.data.load import LoadOptions, load, load_reported
from training.data.read_wiki import (
    WikiOptions,
    WikiPage,
    categories_of,
    is_wiki_dump,
    iter_pages,
    mapping_template,
    read_wiki,
)
from training.data.report import DropLog
from training.errors import DataError, UserError

INFO = (
    '<siteinfo><sitename>Folk</sitename><namespaces><namespace key="0" case="first-letter" />'
    '<namespace key="1">Talk</namespace><namespace key="14">Kategorie</namespace></namespaces></siteinfo>'
)


def page(title: str, text: str, namespace: int = 0, redirect: str = "", older: str = "") -> str:
    sent = f'<redirect title="{redirect}" />' if redirect else ""
    revisions = "".join(
        f"<revision><id>99</id><contributor><username>A</username><id>5</id></contributor>"
        f'<text bytes="1" xml:space="preserve">{escape(body)}</text></revision>'
        for body in ([older] if older else []) + [text]
    )
    return f"<page><title>{escape(title)}</title><ns>{namespace}</ns><id>7</id>{sent}{revisions}</page>"


def dump(*pages: str) -> bytes:
    head = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="de">'
    return f"{head}{INFO}{''.join(pages)}</mediawiki>".encode()


WIKI = dump(
    page("Aino (elf)", "Aino is an elf.\n[[Category:Living people]] [[category: wood_elves |Aino]]"),
    page(
        "Borin", "[[Kategorie:Dwarves]] <!-- [[Category:Wood elves]] --> <nowiki>[[Category:Orcs]]</nowiki>"
    ),
    page("Borin the Elder", "#REDIRECT [[Borin]]"),
    page("Old Borin", "", redirect="Borin"),
    page("Talk page", "x", namespace=1),
    page("Kategorie:Elves", "x", namespace=14),
    page("Mercury", "'''Mercury''' may be:\n{{Disambiguation}}"),
    page("List of elves", "[[Category:Wood elves]]"),
    page("Aino/Gallery", "[[Category:Wood elves]]"),
    page("Aino", "[[Category:Wood elves]]"),
    page("The 7 Seals", "[[Category:Wood elves]]"),
    page("Nobody", "No category at all."),
    page("Cadoc", "[[Category:Places]]", older="[[Category:Dwarves]]"),
)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def make(content: bytes = WIKI, name: str = "folk.xml") -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return make


@pytest.fixture
def mapping(tmp_path: Path) -> Grouping:
    file = tmp_path / "map.toml"
    file.write_text('[groups]\nElves = ["* elves"]\nDwarves = []\n')
    return load_grouping(file)


def test_titles_are_names_and_mapped_categories_their_labels(
    write: Callable[..., Path], mapping: Grouping
) -> None:
    options = LoadOptions(wiki=WikiOptions(mapping=mapping, unmapped="drop"))
    corpus, report = load_reported(write(), None, options)
    assert [(d.text, d.category) for d in corpus.documents] == [("Aino", "Elves"), ("Borin", "Dwarves")]
    assert (corpus.name, report.read, report.unit) == ("folk", 13, "pages")
    assert {(drop.reason, drop.count) for drop in report.drops} == {
        ("redirect", 2),
        ("namespace Talk", 1),
        ("namespace Kategorie", 1),
        ("disambiguation page", 1),
        ("a list, or a page below another", 2),
        ("name stands twice in its category", 1),
        ("title is no name: holds digits", 1),
        ("no category", 1),
        ("no category that the mapping knows", 1),
    }
    assert sum(drop.count for drop in report.drops) + len(corpus) == report.read


@pytest.mark.parametrize(
    ("rule", "labels"),
    [
        ("keep", ["Elves", "Dwarves", None, "Places"]),
        ("unknown", ["Elves", "Dwarves", "unknown", "unknown"]),
    ],
)
def test_what_the_mapping_does_not_know_goes_as_asked(
    write: Callable[..., Path], mapping: Grouping, rule: str, labels: list[str | None]
) -> None:
    found, _, _ = read_wiki(write(), WikiOptions(mapping=mapping, unmapped=rule), DropLog())  # type: ignore[arg-type]
    assert [d.category for d in found] == labels


def test_an_unknown_category_can_be_an_error(write: Callable[..., Path], mapping: Grouping) -> None:
    with pytest.raises(UserError, match="'Cadoc': the mapping knows none of its categories Places"):
        read_wiki(write(), WikiOptions(mapping=mapping, unmapped="error"), DropLog())


def test_without_a_mapping_the_first_category_holds(write: Callable[..., Path]) -> None:
    found, categories, _ = read_wiki(write(), WikiOptions(), DropLog())
    assert [(d.text, d.category) for d in found][:2] == [("Aino", "Living people"), ("Borin", "Dwarves")]
    assert categories["Wood elves"] == 3


@pytest.mark.parametrize(("name", "pack"), [("folk.xml.bz2", bz2.compress), ("folk.xml.gz", gzip.compress)])
def test_packed_dumps_are_read_as_a_stream(
    write: Callable[..., Path], name: str, pack: Callable[[bytes], bytes]
) -> None:
    path = write(pack(WIKI), name)
    assert is_wiki_dump(path)
    assert [d.text for d in load(path).documents] == ["Aino", "Borin", "Aino", "Nobody", "Cadoc"]


def test_multi_stream_bz2_as_large_wikis_publish_it_is_read_to_its_end(write: Callable[..., Path]) -> None:
    half = len(WIKI) // 2
    path = write(bz2.compress(WIKI[:half]) + bz2.compress(WIKI[half:]), "folk.xml.bz2")
    assert len(load(path)) == 5


def test_the_last_revision_counts_and_ids_of_revisions_do_not(write: Callable[..., Path]) -> None:
    pages = [found for found, _ in iter_pages(write())]
    assert pages[-1].text == "[[Category:Places]]"
    assert {found.id for found in pages} == {"7"}


@pytest.mark.parametrize(
    ("content", "name", "complaint"),
    [
        (bz2.compress(WIKI)[:-40], "a.xml.bz2", "broken or cut short"),
        (gzip.compress(WIKI)[:-40], "a.xml.gz", "broken or cut short"),
        (WIKI[:-40], "a.xml", r"line \d+"),
        (b'<!DOCTYPE m [<!ENTITY a "aaaa">]>' + WIKI, "a.xml", "document type"),
        (dump("<page><title>A</title><ns>x</ns></page>"), "a.xml", "<ns> is 'x'"),
        (b"<wiki><!-- <mediawiki --></wiki>", "a.xml", "outermost element is <wiki>"),
        (b"7z\xbc\xaf\x27\x1cxx", "a.xml.gz", "7z archive"),
        (dump(), "a.xml", "holds no text"),
    ],
)
def test_broken_dumps_are_named_with_the_reason(
    write: Callable[..., Path], content: bytes, name: str, complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint) as caught:
        load(write(content, name))
    assert name in str(caught.value)


def test_categories_are_spelled_one_way_and_stand_once() -> None:
    text = (
        "[[category:wood_elves]] [[Category: Wood  elves|x]] [[Kategorie:Zwerge]] [[File:a]] [[:Category:No]]"
    )
    assert categories_of(text, {14: "Kategorie"}) == ["Wood elves", "Zwerge"]


def test_a_mapping_to_be_edited_lists_categories_by_size(write: Callable[..., Path], tmp_path: Path) -> None:
    _, categories, _ = read_wiki(write(), WikiOptions(), DropLog())
    categories['With "quotes"'] = 2
    file = tmp_path / "map.toml"
    file.write_text(mapping_template(categories), encoding="utf-8")
    assert load_grouping(file).groups == ("Wood elves", 'With "quotes"')


def test_namespaces_and_limits_can_be_chosen(write: Callable[..., Path]) -> None:
    found, _, read = read_wiki(write(), WikiOptions(namespaces=(0, 1)), DropLog(), limit=3)
    assert [d.text for d in found] == ["Aino", "Borin", "Talk page"]
    assert read < 13
    with pytest.raises(UserError, match="namespaces is empty"):
        WikiOptions(namespaces=())


def test_memory_does_not_grow_with_the_dump(write: Callable[..., Path]) -> None:
    long = "x" * 200_000
    path = write(dump(*(page(f"Name{chr(97 + n)}", long) for n in range(20))))
    alive: list[WikiPage] = []
    for found, _ in iter_pages(path):
        alive = [found]
    assert alive[0].title == "Namet"
