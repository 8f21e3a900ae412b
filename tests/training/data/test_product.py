from __future__ import annotations

import pytest

from training.data.corpus import Corpus, Document
from training.data.product import ProductOptions, product
from training.data.split import SplitOptions, key_of, split
from training.errors import UserError


def names(name: str, per_category: int, categories: tuple[str, ...] = ("Elf", "Orc")) -> Corpus:
    return Corpus(
        "documents",
        tuple(
            Document(f"{name}{c}{n}", c, f"{name}/{c}{n}") for c in categories for n in range(per_category)
        ),
        name,
    )


def test_no_half_of_a_held_out_name_is_seen_in_training() -> None:
    corpus, report = product(names("Given", 40), names("Family", 30), ProductOptions(2000, 0.1, 0.1))
    halves: dict[str, set[str]] = {"train": set(), "val": set(), "test": set()}
    for document in corpus.documents:
        halves[document.group or ""].update(document.text.split())
    assert all(halves.values())
    assert not halves["train"] & (halves["val"] | halves["test"])
    assert not halves["val"] & halves["test"]
    assert len({document.text for document in corpus.documents}) == len(corpus)
    assert report.noted("full names of the train part") > report.noted("full names of the val part") > 0


def test_training_keeps_to_the_parts() -> None:
    corpus, _ = product(names("Given", 40), names("Family", 30), ProductOptions(500, 0.1, 0.1))
    parts = split(corpus, SplitOptions(by_group=True))
    assert parts.val is not None
    assert parts.test is not None
    for name, part in (("train", parts.train), ("val", parts.val), ("test", parts.test)):
        assert {document.group for document in part.documents} == {name}
    assert len(parts.train) + len(parts.val) + len(parts.test) == len(corpus)


def test_only_halves_of_one_category_meet_unless_any_may() -> None:
    corpus, _ = product(names("Given", 30), names("Family", 30), ProductOptions(400))
    assert all(document.category in part for document in corpus.documents for part in document.text.split())
    mixed, _ = product(names("Given", 30), names("Family", 30), ProductOptions(400, match=False))
    assert any(
        "GivenElf" in d.text and "FamilyOrc" in d.text and d.category == "Elf" for d in mixed.documents
    )


def test_the_same_seed_makes_the_same_names_and_another_one_others() -> None:
    given, family = names("Given", 30), names("Family", 30)
    first = product(given, family, ProductOptions(300))[0]
    assert product(given, family, ProductOptions(300))[0].sha256 == first.sha256
    assert product(given, family, ProductOptions(300, seed=1))[0].sha256 != first.sha256


def test_what_cannot_meet_is_counted() -> None:
    given = Corpus(
        "documents", (*names("Given", 30).documents, Document("Solo", "Ent"), Document("Solo", "Ent")), "g"
    )
    family = Corpus("documents", (*names("Family", 30).documents, Document("givenelf3", "Elf")), "f")
    corpus, report = product(given, family, ProductOptions(100_000))
    assert report.dropped("stands twice in its category") == 1
    assert report.dropped("surname that is a first name too") == 1
    reasons = [drop.reason for drop in report.drops]
    assert any(reason.startswith("first name without a surname of its category") for reason in reasons)
    assert not any(key_of(document.text).endswith("givenelf3") for document in corpus.documents)


def test_a_product_that_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="every surname is a first name too"):
        product(names("Given", 30), names("Given", 30))
    with pytest.raises(UserError, match="no category has both"):
        product(names("Given", 30, ("Elf",)), names("Family", 30, ("Orc",)))
    with pytest.raises(UserError, match="count is 1"):
        ProductOptions(1)


def test_parts_by_group_are_checked() -> None:
    corpus = Corpus("documents", (Document("a", group="train"), Document("b", group="other")), "c")
    with pytest.raises(UserError, match="needs the groups train, val, test; it has other"):
        split(corpus, SplitOptions(by_group=True))
    with pytest.raises(UserError, match="holdout must not be given"):
        SplitOptions(by_group=True, holdout="x")
    both = Corpus(
        "documents",
        (Document("a", group="train"), Document("b", group="train"), Document("A", group="val")),
        "c",
    )
    parts = split(both, SplitOptions(by_group=True))
    assert parts.leaking == 1
    assert [d.text for d in parts.train.documents] == ["b"]
