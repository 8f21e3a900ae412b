from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.corpus import Corpus, Document
from training.data.split import SplitOptions, key_of, split
from training.errors import UserError


def names(count: int) -> Corpus:
    return Corpus("documents", tuple(Document(f"Name {i}", "Elf") for i in range(count)), "names")


_names = st.lists(
    st.builds(
        Document,
        st.text(alphabet="aAbBß İ", min_size=1, max_size=4).filter(str.strip),
        st.sampled_from([None, "x", "y"]),
    ),
    min_size=12,
    max_size=60,
).filter(lambda documents: len({key_of(d.text) for d in documents}) >= 4)


@given(_names, st.integers(0, 5), st.sampled_from([0.1, 0.25]), st.sampled_from([0.0, 0.2]))
def test_no_name_lies_on_two_sides_and_none_is_lost(
    documents: list[Document], seed: int, val: float, test: float
) -> None:
    corpus = Corpus("documents", tuple(documents), "c")
    parts = split(corpus, SplitOptions(val=val, test=test, seed=seed))
    sides = [part.documents for part in (parts.train, parts.val, parts.test) if part is not None]
    keys = [{key_of(d.text) for d in side} for side in sides]
    assert sum(map(len, keys)) == len(set.union(*keys))
    assert set.union(*keys) == {key_of(d.text) for d in documents}
    assert sum(map(len, sides)) + parts.copies == len(documents)
    pairs = [(key_of(d.text), d.category) for side in sides for d in side]
    assert len(pairs) == len(set(pairs))


@given(_names, st.randoms())
def test_side_of_a_name_does_not_depend_on_the_order(documents: list[Document], order: random.Random) -> None:
    shuffled = list(documents)
    order.shuffle(shuffled)
    one, two = (split(Corpus("documents", tuple(d), "c")) for d in (documents, shuffled))
    assert one.val is not None
    assert two.val is not None
    assert {key_of(d.text) for d in one.val.documents} == {key_of(d.text) for d in two.val.documents}


def test_fractions_are_exact_and_the_order_stays() -> None:
    parts = split(names(200), SplitOptions(val=0.1, test=0.05))
    assert parts.val is not None
    assert parts.test is not None
    assert (len(parts.train), len(parts.val), len(parts.test)) == (170, 20, 10)
    numbers = [int(d.text.split()[1]) for d in parts.train.documents]
    assert numbers == sorted(numbers)
    assert parts.val.name == "names/val"


def test_seed_decides_and_repeats() -> None:
    first, again, other = (split(names(50), SplitOptions(seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert first.val != other.val


def test_copies_are_kept_and_counted_where_published_figures_keep_them() -> None:
    twice = names(500)
    twice = replace(twice, documents=twice.documents * 2)
    parts = split(twice, SplitOptions(val=0.1, test=0.1, copies="kept"))
    assert parts.val is not None
    assert parts.test is not None
    assert (len(parts.train), len(parts.val), len(parts.test)) == (800, 100, 100)
    trained = {document.text for document in parts.train.documents}
    assert parts.shared == sum(d.text in trained for d in (*parts.val.documents, *parts.test.documents)) > 100
    assert parts.copies == 0
    # The lectures' own lines.
    words = [document.text for document in twice.documents]
    random.seed(42)
    random.shuffle(words)
    assert [document.text for document in parts.test.documents] == words[int(0.9 * len(words)) :]


def test_split_does_not_change_between_releases() -> None:
    val = split(names(20), SplitOptions(val=0.2)).val
    assert val is not None
    assert [d.text for d in val.documents] == ["Name 0", "Name 2", "Name 4", "Name 14"]


def test_stream_holds_back_the_end_of_every_document() -> None:
    corpus = Corpus(
        "stream", (Document("abcdefghij", group="one"), Document("0123456789" * 2, group="two")), "books"
    )
    parts = split(corpus, SplitOptions(val=0.2, test=0.1))
    assert parts.val is not None
    assert parts.test is not None
    assert [d.text for d in parts.train.documents] == ["abcdefg", "01234567890123"]
    assert [d.text for d in parts.val.documents] == ["hi", "4567"]
    assert [d.text for d in parts.test.documents] == ["j", "89"]
    assert [d.group for d in parts.val.documents] == ["one", "two"]


@given(st.integers(10, 5000))
def test_stream_is_cut_at_nine_tenths_as_the_anchors_are(size: int) -> None:
    text = "x" * size
    parts = split(Corpus("stream", (Document(text),), "c"))
    assert parts.val is not None
    assert len(parts.train.documents[0].text) == int(size * 0.9)
    assert parts.train.characters + parts.val.characters == size


def test_held_out_book_is_the_test_part_and_leaks_nowhere() -> None:
    documents = tuple(Document(f"{g} {i}", group=g) for g in ("a", "b") for i in range(20))
    documents += (Document("B 3", group="a"),)
    parts = split(Corpus("documents", documents, "c"), SplitOptions(holdout="b"))
    assert parts.test is not None
    assert parts.val is not None
    assert {d.group for d in parts.test.documents} == {"b"}
    assert {d.group for d in (*parts.train.documents, *parts.val.documents)} == {"a"}
    assert parts.leaking == 1
    assert "B 3" not in [d.text for d in (*parts.train.documents, *parts.val.documents)]
    assert (parts.train.name, parts.val.name, parts.test.name) == ("c/train", "c/val", "c/test")


def test_unknown_group_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"'x' is no group .* its groups are none at all"):
        split(names(3), SplitOptions(holdout="x"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val": 1.0}, "val is 1.0"),
        ({"test": -0.1}, "test is -0.1"),
        ({"val": 0.5, "test": 0.5}, "leave nothing"),
        ({"holdout": "b", "test": 0.1}, "test must be 0"),
        ({"copies": "some"}, "copies is 'some'; allowed are out, kept"),
        ({"copies": "kept", "holdout": "b"}, "holdout and by_group must not be given"),
        ({"copies": "kept", "by_group": True}, "holdout and by_group must not be given"),
    ],
)
def test_bad_fractions_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SplitOptions(**options)  # type: ignore[arg-type]


def test_part_that_would_be_empty_is_refused() -> None:
    with pytest.raises(UserError, match="the val part would be empty"):
        split(names(1))
    with pytest.raises(UserError, match="the train part would be empty"):
        split(replace(names(1), kind="stream"), SplitOptions(val=0.9))
