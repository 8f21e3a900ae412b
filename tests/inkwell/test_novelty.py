"""The novelty index against a brute-force oracle that looks at every pair of places."""

from __future__ import annotations

import random
import string
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inkwell.errors import BundleError
from inkwell.novelty import NoveltyIndex, memorisation


def longest_from(documents: list[str], text: str, start: int) -> int:
    """Length of the longest part of `text` from `start` on that some document holds."""
    length = 0
    while start + length < len(text) and any(text[start : start + length + 1] in d for d in documents):
        length += 1
    return length


def oracle(documents: list[str], text: str, least: int) -> tuple[int, float]:
    lengths = [longest_from(documents, text, start) for start in range(len(text))]
    marked: set[int] = set()
    for start, length in enumerate(lengths):
        if length >= least:
            marked.update(range(start, start + length))
    return max(lengths, default=0), len(marked) / len(text) if text else 0.0


def composed(texts: list[str]) -> list[str]:
    return [unicodedata.normalize("NFC", text) for text in texts]


def check_against_oracle(documents: list[str], text: str, least: int) -> None:
    index = NoveltyIndex.build(documents, min_overlap=least)
    found = index.check(text)
    documents, text = composed(documents), unicodedata.normalize("NFC", text)
    longest, ratio = oracle(documents, text, least)
    assert found.longest == longest
    assert found.ratio == pytest.approx(ratio)
    assert found.copy == (text.strip().casefold() in {d.strip().casefold() for d in documents})
    assert found.end - found.start == len(found.excerpt) == longest
    if longest:
        assert found.document is not None
        assert found.offset is not None
        assert text[found.start : found.end] == found.excerpt
        assert documents[found.document][found.offset : found.offset + longest] == found.excerpt


few = st.text(alphabet="ab", max_size=40)
many = st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)


@settings(max_examples=300, deadline=None)
@given(st.lists(few, max_size=5), few, st.integers(1, 30))
def test_overlap_in_repetitive_texts_equals_the_oracle(documents: list[str], text: str, least: int) -> None:
    check_against_oracle(documents, text, least)


@settings(max_examples=200, deadline=None)
@given(st.lists(many, max_size=4), many, st.integers(1, 12), st.data())
def test_overlap_in_any_unicode_equals_the_oracle(
    documents: list[str], text: str, least: int, data: st.DataObject
) -> None:
    if documents:
        copied = data.draw(st.sampled_from(documents))
        text = text[:10] + copied[data.draw(st.integers(0, 10)) :] + text[10:]
    check_against_oracle(documents, text, least)


def words(source: random.Random, count: int) -> str:
    vocabulary = ["".join(source.choices("etaoins", k=source.randint(1, 6))) for _ in range(60)]
    return " ".join(source.choices(vocabulary, k=count))


@pytest.mark.parametrize("least", [4, 9, 10, 24, 40])
def test_spliced_copies_of_word_like_text_equal_the_oracle(least: int) -> None:
    source = random.Random(least)
    documents = [words(source, 150) for _ in range(3)] + [words(source, 5) * 30]
    for _ in range(12):
        parts = []
        for _ in range(source.randint(1, 5)):
            document = source.choice(documents)
            start = source.randrange(len(document))
            parts.append(document[start : start + source.randint(1, 60)])
            parts.append("".join(source.choices(string.ascii_lowercase, k=source.randint(0, 4))))
        check_against_oracle(documents, "".join(parts), least)


def test_overlap_never_spans_two_documents() -> None:
    index = NoveltyIndex.build(["the lantern", " was lit"])
    assert index.check("the lantern was lit").longest == len("the lantern")
    assert index.check("lantern\0 was").longest == len("lantern")


def test_whole_documents_are_recognised_in_any_letter_case() -> None:
    index = NoveltyIndex.build(["Maelowyn", "Ëlorin"])
    assert index.check("maelOWYN").copy
    assert index.contains(" ëlorin\n")
    assert index.contains(unicodedata.normalize("NFD", "Ëlorin"))
    assert not index.contains("Maelowy")
    assert not index.check("Maelowyn Ëlorin").copy


def test_a_copy_names_its_title_and_place() -> None:
    documents = ["A rusty key.", "The moonlit blade of Orn."]
    index = NoveltyIndex.build(documents, titles=["Key", "Blade"], min_overlap=8)
    found = index.check("I hold the moonlit blade, alas")
    assert (found.excerpt, found.title, found.document, found.offset) == ("he moonlit blade", "Blade", 1, 1)
    assert (found.start, found.end) == (8, 24)
    assert found.ratio == pytest.approx(16 / 30)


def test_saved_index_answers_as_the_built_one(tmp_path: Path) -> None:
    documents = [words(random.Random(n), 40) for n in range(5)]
    built = NoveltyIndex.build(documents, titles=[f"Tale {n}" for n in range(5)], min_overlap=7)
    built.save(tmp_path / "novelty.npz")
    loaded = NoveltyIndex.load(tmp_path / "novelty.npz")
    for text in (documents[2][10:70] + documents[4][:20], "", "zzz"):
        assert loaded.check(text) == built.check(text)
    with np.load(tmp_path / "novelty.npz", allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    index = NoveltyIndex.build(["one", "two"])
    index.save(tmp_path / "a.npz")
    index.save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize("documents", [[], [""], ["", "a"]])
def test_corpora_of_almost_nothing_survive_the_disk(documents: list[str], tmp_path: Path) -> None:
    NoveltyIndex.build(documents).save(tmp_path / "novelty.npz")
    loaded = NoveltyIndex.load(tmp_path / "novelty.npz")
    assert list(loaded.documents) == documents
    assert loaded.check("b").longest == 0
    assert loaded.check("a").copy == ("a" in documents)


def test_index_is_smaller_than_half_its_corpus(tmp_path: Path) -> None:
    corpora = Path(__file__).parents[2] / "training" / "corpora"
    for name in ("prose.txt", "stories.txt"):
        text = (corpora / name).read_text(encoding="utf-8")
        NoveltyIndex.build(text.split("\n\n")).save(tmp_path / name)
        assert (tmp_path / name).stat().st_size <= len(text.encode()) / 2
    rows = (corpora / "names.csv").read_text(encoding="utf-8").splitlines()[1:]
    names = [row.partition(",")[0] for row in rows]
    NoveltyIndex.build(names).save(tmp_path / "names.npz")
    assert (tmp_path / "names.npz").stat().st_size <= sum(len(name.encode()) + 1 for name in names) / 2


def test_damaged_index_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "novelty.npz"
    NoveltyIndex.build([words(random.Random(1), 300)]).save(path)
    whole = path.read_bytes()
    for broken in (b"", whole[:200], b"PK" + whole[2:300], whole.replace(b'"format": 1', b'"format": 9')):
        path.write_bytes(broken)
        with pytest.raises(BundleError, match=r"novelty\.npz"):
            NoveltyIndex.load(path)


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="2 titles for 1 documents"):
        NoveltyIndex.build(["a"], titles=["A", "B"])
    with pytest.raises(ValueError, match="document 1 holds"):
        NoveltyIndex.build(["a", "b\0c"])
    with pytest.raises(ValueError, match="min_overlap is 0"):
        NoveltyIndex.build(["a"], min_overlap=0)


def test_memorisation_summarises_copies_and_overlaps() -> None:
    index = NoveltyIndex.build(["Silthanwe", "Irithelle"], min_overlap=4)
    summary = memorisation(["silthanwe", "Irix", "qqqq"], index)
    assert summary == {
        "texts": 3.0,
        "exact_copies": pytest.approx(1 / 3),
        "mean_longest": pytest.approx((8 + 3 + 0) / 3),
        "max_longest": 8.0,
        "mean_ratio": pytest.approx(8 / 9 / 3),
    }
    assert memorisation([], index)["mean_longest"] == 0.0
