from __future__ import annotations

from pathlib import Path

import pytest

from training.data.corpus import Corpus, Document
from training.data.grouping import DEFAULT_MAPPING, apply_grouping, load_grouping
from training.errors import DataError, UserError

MAPPING = """
[groups]
Elves = ["Elven", "High  Elf"]
Orcs = ["Half-orc"]
"""


def mapping(folder: Path, text: str = MAPPING) -> Path:
    path = folder / "groups.toml"
    path.write_text(text, encoding="utf-8")
    return path


def corpus(*labels: str | None) -> Corpus:
    return Corpus("documents", tuple(Document(f"n{i}", label) for i, label in enumerate(labels)), "names")


def test_labels_are_mapped_without_regard_to_case_and_spaces(tmp_path: Path) -> None:
    grouped, report = apply_grouping(
        corpus("elven", "HIGH ELF", "Elves", "half-ORC", None), load_grouping(mapping(tmp_path))
    )
    assert [d.category for d in grouped.documents] == ["Elves", "Elves", "Elves", "Orcs", None]
    assert report.counts == {"Elves": 3, "Orcs": 1}
    assert report.unmapped == {}


@pytest.mark.parametrize(
    ("rule", "categories"),
    [("keep", ["Elves", "Ent", "Ent"]), ("unknown", ["Elves", "unknown", "unknown"]), ("drop", ["Elves"])],
)
def test_unmapped_labels_follow_the_rule_and_are_reported(
    tmp_path: Path, rule: str, categories: list[str]
) -> None:
    grouped, report = apply_grouping(corpus("Elven", "Ent", "Ent"), load_grouping(mapping(tmp_path)), rule)  # type: ignore[arg-type]
    assert [d.category for d in grouped.documents] == categories
    assert report.unmapped == {"Ent": 2}
    assert report.dropped == (2 if rule == "drop" else 0)


def test_unmapped_labels_can_be_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"1 labels have no group: Ent \(2\)"):
        apply_grouping(corpus("Ent", "Ent"), load_grouping(mapping(tmp_path)), "error")


def test_small_groups_become_unknown(tmp_path: Path) -> None:
    grouped, report = apply_grouping(
        corpus("Elven", "Elven", "Orcs"), load_grouping(mapping(tmp_path)), min_count=2
    )
    assert [d.category for d in grouped.documents] == ["Elves", "Elves", "unknown"]
    assert report.small == {"Orcs": 1}


def test_nothing_left_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no document has a label that the mapping knows"):
        apply_grouping(corpus("Ent"), load_grouping(mapping(tmp_path)), "drop")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[groups", "not TOML"),
        ("", r"needs one table \[groups\]; found nothing"),
        ("[groups]\na = []\n[more]\n", "found groups, more"),
        ('[groups]\na = "x"\n', "group 'a' must be a list of labels"),
        ('[groups]\na = ["x"]\nb = ["X "]\n', "label 'X ' stands in the groups 'a' and 'b'"),
    ],
)
def test_bad_mapping_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_grouping(mapping(tmp_path, text))


@pytest.mark.parametrize(("field", "value"), [("unmapped", "guess"), ("min_count", 0)])
def test_bad_options_are_named(tmp_path: Path, field: str, value: object) -> None:
    with pytest.raises(UserError, match=f"{field} is"):
        apply_grouping(corpus("Elven"), load_grouping(mapping(tmp_path)), **{field: value})  # type: ignore[arg-type]


def test_mapping_that_ships_knows_every_label_of_the_sample_names() -> None:
    grouping = load_grouping(DEFAULT_MAPPING)
    sample = DEFAULT_MAPPING.parents[1] / "corpora" / "names.csv"
    labels = {line.rpartition(",")[2] for line in sample.read_text(encoding="utf-8").splitlines()[1:]}
    assert len(labels) >= 30
    assert [label for label in labels if grouping.group_of(label) is None] == []
