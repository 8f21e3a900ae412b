"""PDF files written object by object from the format's layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.data.load import LoadOptions, load, load_reported
from training.data.read_pdf import read_pdf
from training.data.report import DropLog
from training.errors import DataError

Line = tuple[str, int]  # text, size in points


def pdf(path: Path, pages: list[list[Line]]) -> Path:
    """A file with one text object per page, in Helvetica."""
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    kids = []
    for lines in pages:
        y, body = 760, ["BT"]
        for text, size in lines:
            escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
            body.append(f"/F1 {size} Tf 1 0 0 1 50 {y} Tm ({escaped}) Tj")
            y -= size + 6
        stream = "\n".join([*body, "ET"])
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
        objects.append(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] "
            f"/Resources << /Font << /F1 3 0 R >> >> /Contents {len(objects)} 0 R >>"
        )
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1")
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    trailer = f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(out)}\n%%EOF\n"
    path.write_bytes(
        out + f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}{trailer}".encode("latin-1")
    )
    return path


def test_larger_lines_are_headings_and_so_categories(tmp_path: Path) -> None:
    lines = [
        ("A Book of Names", 24),
        ("Elven Names", 16),
        ("Male", 13),
        ("Aerin, Belas, Caladir", 10),
        ("Female: Faelin, Galawen", 10),
        ("Dwarven Names", 16),
        ("1. Borin (the old)", 10),
        ("2. Durak", 10),
        ("The dwarves of the north have one name only and it is never told to strangers.", 10),
    ]
    corpus, report = load_reported(pdf(tmp_path / "n.pdf", [lines]), "documents", LoadOptions(names=True))
    assert [(d.text, d.category) for d in corpus.documents] == [
        ("Aerin", "Elven"),
        ("Belas", "Elven"),
        ("Caladir", "Elven"),
        ("Faelin", "Elven"),
        ("Galawen", "Elven"),
        ("Borin", "Dwarven"),
        ("Durak", "Dwarven"),
    ]
    assert report.dropped("a sentence, not names") == 1


def test_running_titles_and_page_numbers_are_left_out(tmp_path: Path) -> None:
    pages = [
        [("Names of the World", 10), (f"Name{chr(97 + n)}, Other{chr(97 + n)}", 10), (str(n + 1), 10)]
        for n in range(5)
    ]
    corpus, report = load_reported(pdf(tmp_path / "n.pdf", pages), "documents", LoadOptions(names=True))
    assert len(corpus) == 10
    assert report.dropped("running title, on more than half of the pages") == 5
    assert report.dropped("page number") == 5


def test_a_pdf_can_be_read_as_running_text(tmp_path: Path) -> None:
    corpus = load(pdf(tmp_path / "n.pdf", [[("It rained all day.", 10)], [("It cleared.", 10)]]))
    assert corpus.kind == "stream"
    assert corpus.documents[0].text == "It rained all day.\nIt cleared."


def test_what_is_no_pdf_and_what_has_no_text_are_named_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "n.pdf"
    path.write_bytes(b"%PDF-1.4\nnothing more")
    with pytest.raises(DataError, match=r"n\.pdf: not a PDF that can be read"):
        read_pdf(path, DropLog())
    with pytest.raises(DataError, match="need OCR first"):
        read_pdf(pdf(path, [[], []]), DropLog())
    with pytest.raises(DataError, match=r"gone\.pdf: cannot be read"):
        read_pdf(tmp_path / "gone.pdf", DropLog())


def test_a_locked_pdf_is_refused(tmp_path: Path) -> None:
    from pypdf import PdfWriter

    writer = PdfWriter(clone_from=pdf(tmp_path / "open.pdf", [[("Aino", 10)]]))
    writer.encrypt("secret", algorithm="RC4-128")
    with (tmp_path / "locked.pdf").open("wb") as file:
        writer.write(file)
    with pytest.raises(DataError, match="locked by a password"):
        read_pdf(tmp_path / "locked.pdf", DropLog())
