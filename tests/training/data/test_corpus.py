from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.corpus import Corpus, Document, Source, load_jsonl, save_jsonl
from training.errors import DataError

_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
_full = _text.filter(lambda t: bool(t.strip()))
_documents = st.builds(Document, _full, st.none() | _text, st.none() | _text, st.none() | _text)
_corpora = st.builds(
    Corpus,
    st.sampled_from(["stream", "documents"]),
    st.lists(_documents, min_size=1, max_size=8).map(tuple),
    _text,
    st.lists(
        st.builds(Source, _text, st.none() | _text, st.none() | _text, st.none() | _text), max_size=2
    ).map(tuple),
)


@given(_corpora)
def test_saved_corpus_comes_back_the_same(corpus: Corpus) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "corpus.jsonl"
        save_jsonl(corpus, path)
        assert load_jsonl(path) == corpus


def small() -> Corpus:
    return Corpus("documents", (Document("Ann", "Elf"), Document("Bo")), "names", (Source("names.csv"),))


def test_hash_depends_on_texts_order_and_kind_only() -> None:
    corpus = small()
    assert corpus.sha256 == replace(corpus, name="other", sources=()).sha256
    assert corpus.sha256 != replace(corpus, documents=corpus.documents[::-1]).sha256
    assert corpus.sha256 != replace(corpus, kind="stream").sha256
    assert corpus.sha256 != replace(corpus, documents=(Document("Ann"), Document("Bo"))).sha256


def test_hash_does_not_change_between_releases() -> None:
    assert small().sha256 == "34b0bb642b7133f035f04978b8dd15498d7ee868332fb77eb842d4fc05b6e7d0"


@pytest.mark.parametrize("text", ["", " \n\t", "a\0b", "a\ud800"])
def test_document_refuses_text_that_no_model_can_use(text: str) -> None:
    with pytest.raises(ValueError, match="document"):
        Document(text)


def test_corpus_needs_documents_and_a_known_kind() -> None:
    with pytest.raises(ValueError, match="no documents"):
        Corpus("documents", (), "empty")
    with pytest.raises(ValueError, match="'novel'; allowed are stream, documents"):
        Corpus("novel", (Document("x"),), "x")  # type: ignore[arg-type]


def lines_of(folder: Path) -> tuple[Path, list[str]]:
    path = folder / "corpus.jsonl"
    save_jsonl(small(), path)
    return path, path.read_text(encoding="utf-8").splitlines()


def test_changed_text_is_noticed(tmp_path: Path) -> None:
    path, lines = lines_of(tmp_path)
    path.write_text("\n".join(lines).replace("Ann", "Eve") + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="sha256"):
        load_jsonl(path)


def test_missing_line_is_noticed(tmp_path: Path) -> None:
    path, lines = lines_of(tmp_path)
    path.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="promises 2 documents, the file holds 1"):
        load_jsonl(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[]", "line 2: a JSON object is needed, found list"),
        ('{"text":"x","colour":"red"}', "line 2: unknown field 'colour'; allowed are text"),
        ('{"text":5}', "line 2: field 'text' must be text, found 5"),
        ('{"text":" "}', "line 2: document .* text is empty"),
        ("{}", "line 2: .*text"),
    ],
)
def test_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path, lines = lines_of(tmp_path)
    path.write_text("\n".join([lines[0], line, lines[2]]), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load_jsonl(path)


def test_later_format_is_refused(tmp_path: Path) -> None:
    path, lines = lines_of(tmp_path)
    head = json.loads(lines[0]) | {"inkwell_corpus": 2}
    path.write_text(json.dumps(head), encoding="utf-8")
    with pytest.raises(DataError, match="inkwell_corpus is 2; this program reads version 1"):
        load_jsonl(path)


def test_categories_are_counted_most_frequent_first() -> None:
    documents = tuple(Document(t, c) for t, c in [("a", "x"), ("b", "y"), ("c", "y"), ("d", None)])
    assert list(Corpus("documents", documents, "n").categories.items()) == [("y", 2), ("x", 1)]
