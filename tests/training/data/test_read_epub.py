"""EPUB files written member by member."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from training.data.load import LoadOptions, load, load_reported
from training.data.read_epub import CONTAINER, MOST_MEMBER_BYTES, read_epub
from training.data.report import DropLog
from training.errors import DataError

HEAD = '<?xml version="1.0" encoding="utf-8"?>\n'
PAGE = '<!DOCTYPE html>\n<html xmlns="http://www.w3.org/1999/xhtml"><head><title>{0}</title></head><body>{1}</body></html>'
ARABIC = (
    "<h1>Arabic Names</h1><p>Every one of these names has been used by somebody, somewhere, at some time.</p>"
    "<h2>Male</h2><ol><li>Aamir (prosperous)</li><li>Adil<br/>Bilal</li></ol>"
    "<h2>Female</h2><p>Aisha, Dalal, Farah</p>"
)
FINNISH = (
    "<p><b>Finnish</b></p>"
    "<table><tr><td>1-5</td><td>Aino</td></tr><tr><td>6-9</td><td>Väinö</td></tr></table>"
)


def container(package: str = "OEBPS/book.opf") -> str:
    return (
        f'{HEAD}<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles>'
        f'<rootfile full-path="{package}" media-type="application/oebps-package+xml"/></rootfiles></container>'
    )


def package(pages: dict[str, str], extra: str = "") -> str:
    items = "".join(
        f'<item id="i{n}" href="{name}" media-type="application/xhtml+xml"/>' for n, name in enumerate(pages)
    )
    order = "".join(f'<itemref idref="i{n}"/>' for n in range(len(pages)))
    return (
        f'{HEAD}<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><manifest>{items}'
        f'<item id="style" href="a.css" media-type="text/css"/></manifest><spine>{order}{extra}</spine></package>'
    )


def epub(path: Path, pages: dict[str, str], members: dict[str, str] | None = None, extra: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        archive.writestr(CONTAINER, container())
        archive.writestr("OEBPS/book.opf", package(pages, extra))
        for name, body in pages.items():
            archive.writestr(f"OEBPS/{name}".replace("%20", " "), PAGE.format("", body))
        for name, body in (members or {}).items():
            archive.writestr(name, body)
    return path


def test_names_of_a_book_take_their_headings_as_categories(tmp_path: Path) -> None:
    book = epub(tmp_path / "names.epub", {"b%20b.xhtml": ARABIC, "a.xhtml": FINNISH})
    corpus, report = load_reported(book, "documents", LoadOptions(names=True))
    assert [(d.text, d.category) for d in corpus.documents] == [
        ("Aamir", "Arabic"),
        ("Adil", "Arabic"),
        ("Bilal", "Arabic"),
        ("Aisha", "Arabic"),
        ("Dalal", "Arabic"),
        ("Farah", "Arabic"),
        ("Aino", "Finnish"),
        ("Väinö", "Finnish"),
    ]
    assert report.dropped("a sentence, not names") == 1
    assert report.noted("headings passed over, such as Male, Surnames or A") == 2
    assert report.noted("meanings behind a name taken off") == 1
    assert [name for name, _ in report.files] == ["OEBPS/b b.xhtml", "OEBPS/a.xhtml"]


def test_a_book_is_read_as_running_text_or_as_chapters_in_the_order_of_its_spine(tmp_path: Path) -> None:
    book = epub(
        tmp_path / "b.epub", {"2.xhtml": "<h1>One</h1><p>It rained.</p>", "1.xhtml": "<p>It cleared.</p>"}
    )
    assert [d.text for d in load(book).documents] == ["One\n\nIt rained.", "It cleared."]
    assert load(book).kind == "stream"
    assert load(book, "documents").kind == "documents"


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ({"META-INF/encryption.xml": '<e><CipherReference URI="OEBPS/a.xhtml"/></e>'}, "DRM"),
        ({"META-INF/encryption.xml": "<!DOCTYPE e [<!ENTITY x 'y'>]><e/>"}, "document type"),
    ],
)
def test_a_locked_book_and_a_trick_are_refused(
    tmp_path: Path, members: dict[str, str], complaint: str
) -> None:
    book = epub(tmp_path / "b.epub", {"a.xhtml": ARABIC}, members)
    with pytest.raises(DataError, match=complaint):
        read_epub(book, DropLog())


def test_mangled_fonts_do_not_lock_a_book(tmp_path: Path) -> None:
    fonts = {"META-INF/encryption.xml": '<e><CipherReference URI="OEBPS/font.otf"/></e>'}
    assert read_epub(epub(tmp_path / "b.epub", {"a.xhtml": ARABIC}, fonts), DropLog())


def test_what_is_no_epub_is_named_with_the_reason(tmp_path: Path) -> None:
    plain = tmp_path / "plain.epub"
    plain.write_text("hello")
    with pytest.raises(DataError, match=r"plain\.epub: not an EPUB, which is a zip file"):
        read_epub(plain, DropLog())
    with zipfile.ZipFile(plain, "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(DataError, match=r"it has no META-INF/container\.xml"):
        read_epub(plain, DropLog())
    with zipfile.ZipFile(plain, "w") as archive:
        archive.writestr(CONTAINER, container("gone.opf"))
    with pytest.raises(DataError, match=r"gone\.opf is named by the book and not in it"):
        read_epub(plain, DropLog())
    with pytest.raises(DataError, match="holds text"):
        read_epub(epub(plain, {"a.xhtml": ""}), DropLog())


def test_a_page_that_unpacks_to_very_much_is_refused(tmp_path: Path) -> None:
    book = epub(tmp_path / "bomb.epub", {"a.xhtml": "x" * (MOST_MEMBER_BYTES + 1)})
    assert book.stat().st_size < 1_000_000
    with pytest.raises(DataError, match="bytes"):
        read_epub(book, DropLog())
