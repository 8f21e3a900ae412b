from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from training.data.corpus import Corpus, Document, save_jsonl
from training.data.load import LoadOptions, load, load_reported
from training.data.read_txt import guess_division
from training.errors import DataError, UserError


def put(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def texts(corpus: Corpus) -> list[str]:
    return [document.text for document in corpus.documents]


@pytest.mark.parametrize(
    ("beginning", "division"),
    [
        ("emma\nolivia\nava\n", "line"),
        ("One day. " * 40 + "\n" + "Once. " * 60, "line"),
        ("A story.\n<|endoftext|>\nB", "endoftext"),
        ("A wrapped line of prose that is rather more than forty long\nand goes on here.\n", "stream"),
        ("Chapter\n\nText", "stream"),
        ("one line", "stream"),
    ],
)
def test_division_is_guessed_from_the_beginning(beginning: str, division: str) -> None:
    assert guess_division(beginning) == division


def test_prose_is_one_stream_with_its_text_unchanged(tmp_path: Path) -> None:
    corpus = load(put(tmp_path, "book.txt", "  One.\r\n\r\n Two.\n"))
    assert corpus.kind == "stream"
    assert corpus.documents == (Document("  One.\n\n Two.\n", id="book", group="book"),)
    assert corpus.sources[0].name == "book.txt"


def test_stories_are_divided_by_the_end_of_text_mark(tmp_path: Path) -> None:
    path = put(tmp_path, "s.txt", "One.\n\nMore.\n<|endoftext|>\nTwo.\n<|endoftext|>\n \n<|endoftext|>\n")
    corpus, report = load_reported(path)
    assert texts(corpus) == ["One.\n\nMore.", "Two."]
    assert report.dropped("only white space") >= 1


def test_mark_on_the_chunk_border_divides(tmp_path: Path) -> None:
    first = "x" * (65_536 - 5)
    assert texts(
        load(put(tmp_path, "s.txt", f"{first}<|endoftext|>b"), "documents", LoadOptions(division="endoftext"))
    ) == [
        first,
        "b",
    ]


def test_paragraphs_are_documents_when_asked(tmp_path: Path) -> None:
    path = put(tmp_path, "p.txt", "\n\none\nstill one\n \n\n\ntwo")
    assert texts(load(path, options=LoadOptions(division="blank"))) == ["one\nstill one", "two"]


def test_limit_stops_reading_early(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(b"a\nb\nc\n" + b"x" * 70_000 + b"\xff")
    assert texts(load(path, options=LoadOptions(division="line", limit=2))) == ["a", "b"]


def test_kind_and_division_that_contradict_are_refused(tmp_path: Path) -> None:
    path = put(tmp_path, "a.txt", "x")
    with pytest.raises(UserError, match="makes documents, kind asks for a stream"):
        load(path, "stream", LoadOptions(division="line"))
    with pytest.raises(UserError, match="kind asks for documents"):
        load(path, "documents", LoadOptions(division="stream"))


def test_table_columns_are_found_or_named(tmp_path: Path) -> None:
    path = put(
        tmp_path, "n.csv", '\ufeffid,Name,Category\r\n1,Ann,Elf\r\n2,"de Vries, Bo",\r\n\r\n3, ,Elf\r\n'
    )
    corpus, report = load_reported(path)
    assert [(d.text, d.category) for d in corpus.documents] == [("Ann", "Elf"), ("de Vries, Bo", None)]
    assert report.dropped("no text") == 1
    named = load(path, options=LoadOptions(text_column="category", category_column="id"))
    assert [(d.text, d.category) for d in named.documents] == [("Elf", "1"), ("Elf", "3")]


def test_table_without_header_numbers_its_columns(tmp_path: Path) -> None:
    path = put(tmp_path, "n.tsv", "Ann\tElf\nBo\tOrc\n")
    corpus = load(path, options=LoadOptions(text_column="1", category_column="2", header=False))
    assert [(d.text, d.category) for d in corpus.documents] == [("Ann", "Elf"), ("Bo", "Orc")]


def test_quoted_line_end_stays_in_the_text(tmp_path: Path) -> None:
    assert texts(load(put(tmp_path, "s.csv", 'text\n"One.\n\nTwo."\n'))) == ["One.\n\nTwo."]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b\n1,2\n", {}, "which column holds the text.*the columns are a, b"),
        ("name\nAnn\n", {"text_column": "title"}, "text column 'title' is not there; the columns are name"),
        ("name\nAnn\n", {"category_column": "x"}, "category column 'x'"),
        ("name,x\nAnn\n", {}, "line 2: 1 fields where the table has 2 columns"),
        ('name\n"Ann"x\n', {}, "line 2: .*expected after"),
        ("name\n", {}, "holds no text"),
    ],
)
def test_bad_table_is_refused_with_its_line(
    tmp_path: Path, text: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load(put(tmp_path, "n.csv", text), options=LoadOptions(**options))


def test_json_lines_are_objects_or_strings(tmp_path: Path) -> None:
    path = put(
        tmp_path,
        "j.jsonl",
        '"plain"\n{"text": "Two", "category": "c", "id": 7, "group": "g"}\n\n{"text": ""}\n',
    )
    corpus, report = load_reported(path)
    assert corpus.documents == (Document("plain", None, "j/1"), Document("Two", "c", "7", "g"))
    assert report.dropped("no text") == 1


def test_title_is_put_before_the_text(tmp_path: Path) -> None:
    path = put(
        tmp_path,
        "j.jsonl",
        '{"name": "Axe", "desc": "It cuts."}\n{"name": "Why?", "desc": "No one knows."}\n',
    )
    options = LoadOptions(text_column="desc", title_column="name")
    assert texts(load(path, options=options)) == ["Axe. It cuts.", "Why? No one knows."]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1: not JSON"),
        ("[1]", "line 1: an object or a string is needed, found list"),
        ('{"body": "x"}', "line 1: no field 'text'; the fields are body"),
        ('{"text": ["x"]}', "line 1: field 'text' must be text"),
        ('{"text": "a\\u0000"}', "line 1: document .* NUL"),
        ("[" * 100_000, "line 1: not JSON"),
    ],
)
def test_bad_json_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(put(tmp_path, "j.jsonl", line + "\n"))


def test_saved_corpus_is_recognised_and_keeps_its_name(tmp_path: Path) -> None:
    corpus = Corpus("stream", (Document("x" * 5_000_000, group="g"),), "long")
    save_jsonl(corpus, tmp_path / "c.jsonl")
    assert load(tmp_path / "c.jsonl") == corpus
    with pytest.raises(UserError, match="is a corpus of kind stream, not documents"):
        load(tmp_path / "c.jsonl", "documents")


def test_folder_of_books_has_one_document_and_group_per_book(tmp_path: Path) -> None:
    put(tmp_path, "b.txt", "Bee.")
    put(tmp_path, "a.txt", "Ant.")
    put(tmp_path, "notes.pdf", "not read")
    corpus = load(tmp_path)
    assert [(d.text, d.group) for d in corpus.documents] == [("Ant.", "a"), ("Bee.", "b")]
    assert corpus.kind == "stream"


def test_folder_of_game_texts_is_recognised(tmp_path: Path, makers: Any) -> None:
    (tmp_path / "会話.fmg.xml").write_text(makers.fmg_xml({1: "Well met."}), encoding="utf-8")
    assert texts(load(tmp_path)) == ["Well met."]
    with pytest.raises(UserError, match="game texts can only be read as documents"):
        load(tmp_path, "stream")


@pytest.mark.parametrize("name", ["a.docx", "noending"])
def test_unknown_format_is_refused_with_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"there are readers for \.txt"):
        load(put(tmp_path, name, "x"))


def test_nothing_there_and_nothing_in_it_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        load(tmp_path / "x.txt")
    with pytest.raises(DataError, match="neither game texts"):
        load(tmp_path)
    with pytest.raises(DataError, match="only white space"):
        load(put(tmp_path, "w.txt", "\n \n"), "stream")


@pytest.mark.parametrize(("field", "value"), [("limit", 0), ("delimiter", "||")])
def test_bad_options_are_named(field: str, value: Any) -> None:
    with pytest.raises(UserError, match=field):
        LoadOptions(**{field: value})
