from __future__ import annotations

from pathlib import Path

import pytest

from training.data.blocks import Block, Chapter, read_html
from training.data.load import LoadOptions, load
from training.data.name_lists import category_of, from_lines, is_sentence, objection, read_names
from training.data.report import DropLog
from training.errors import DataError


@pytest.mark.parametrize(
    ("heading", "category"),
    [
        ("3. Common Arabic Names", "Arabic"),
        ("ELVEN FEMALE NAMES:", "Elven"),
        ("Names of the Sea Folk", "the Sea Folk"),
        ("Male", None),
        ("Family names", None),
        ("A – F", None),
        ("B", None),
        ("12", None),
        ("Women", None),
    ],
)
def test_a_heading_says_whose_names_follow(heading: str, category: str | None) -> None:
    assert category_of(heading) == category


@pytest.mark.parametrize(
    "name", ["Aino", "O'Brien", "St. John", "Jean-Luc", "Y", "Iðunn Jr.", "Leonardo da Vinci"]
)
def test_names_of_many_shapes_pass(name: str) -> None:
    assert objection(name) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Room 12", "holds digits"),
        ("www.names.org", "an address"),
        ("x" * 41, "longer than 40 characters"),
        ("one two three four five six", "more than 5 words"),
        ("Aino!", "signs that no name has"),
    ],
)
def test_what_is_no_name_is_left_out_with_a_reason(text: str, reason: str) -> None:
    assert objection(text) == reason


def test_prose_is_told_from_lists() -> None:
    assert is_sentence("The elves of the north have names that end softly, as a rule.")
    assert is_sentence("They were all gone.")
    assert not is_sentence("Aino, Ilmari, Kaisa, Lempi, Martta, Niilo, Oiva, Pirkko")


def test_words_without_capitals_are_dropped_only_where_nearly_all_have_one() -> None:
    mixed = Chapter("c", "Elves", (Block("paragraph", "Aino, Bela, Cadoc, Dora, Ewan, and more, Faye"),))
    log = DropLog()
    assert [d.text for d in read_names([mixed], log)] == ["Aino", "Bela", "Cadoc", "Dora", "Ewan", "Faye"]
    small = Chapter("c", "Elves", (Block("paragraph", "aino, bela, cadoc"),))
    assert len(read_names([small], DropLog())) == 3


def test_a_name_stands_once_in_each_category_and_a_title_serves_where_no_heading_does() -> None:
    blocks = (
        Block("item", "Aino"),
        Block("item", "aino"),
        Block("heading", "Giants", 2),
        Block("item", "Aino"),
    )
    log = DropLog()
    found = read_names([Chapter("c", "Finnish Names", blocks)], log)
    assert [(d.text, d.category) for d in found] == [("Aino", "Finnish"), ("Aino", "Giants")]
    assert log.freeze("", 0, 0, "").dropped("stands twice in its category") == 1


def test_a_deeper_heading_ends_with_the_next_one_of_its_level() -> None:
    blocks = (
        Block("heading", "Elves", 1),
        Block("heading", "High", 2),
        Block("item", "Aerin"),
        Block("heading", "Dwarves", 1),
        Block("item", "Borin"),
    )
    assert [d.category for d in read_names([Chapter("c", "", blocks)], DropLog())] == ["High", "Dwarves"]


def test_plain_text_has_headings_alone_in_capitals_with_a_colon_or_a_hash(tmp_path: Path) -> None:
    text = (
        "# Elves\nAerin, Belas\n\nDwarves\n\nBorin\nDurak\nTROLLS\nGrub\nSea Folk:\nNerin\nMale: Ondo, Pell\n"
    )
    chapter = from_lines("t", "t", text.splitlines())
    assert [(d.text, d.category) for d in read_names([chapter], DropLog())] == [
        ("Aerin", "Elves"),
        ("Belas", "Elves"),
        ("Borin", "Dwarves"),
        ("Durak", "Dwarves"),
        ("Grub", "Trolls"),
        ("Nerin", "Sea Folk"),
        ("Ondo", "Sea Folk"),
        ("Pell", "Sea Folk"),
    ]
    file = tmp_path / "list.txt"
    file.write_text(text)
    assert len(load(file, "documents", LoadOptions(names=True))) == 8


def test_a_text_without_names_is_an_error(tmp_path: Path) -> None:
    page = tmp_path / "p.html"
    page.write_text("<p>There is nothing on this page that anybody could be called by, sorry.</p>")
    with pytest.raises(DataError, match="nothing in it looks like a list of names"):
        load(page, "documents", LoadOptions(names=True))


def test_html_loses_menus_and_scripts_and_keeps_lists_cells_and_asked_for_line_ends() -> None:
    page = read_html(
        "<html><head><title>A\n list</title><meta name=robots content='NoIndex, nofollow'><script>x<p>y</script>"
        "<body><nav><a href=/menu>Menu</a></nav><h2>Fey &amp; <i>folk</i></h2><ul><li>Aino<li>Bela</ul>"
        "<p>one\ntwo<br>three<table><tr><td>Cell<td><p>Inner</p></table><p><b>Bold</b></p><p><b>Half</b> bold"
        "<a href='x.html' rel='nofollow ugc'>x</a></p><noscript><p>no</p></noscript></body>"
    )
    assert page.title == "A list"
    assert page.robots == {"noindex", "nofollow"}
    assert page.links == (("/menu", False), ("x.html", True))
    assert [(b.kind, b.text) for b in page.blocks] == [
        ("heading", "Fey & folk"),
        ("item", "Aino"),
        ("item", "Bela"),
        ("paragraph", "one two\nthree"),
        ("item", "Cell"),
        ("item", "Inner"),
        ("heading", "Bold"),
        ("paragraph", "Half boldx"),
    ]
