"""Many raw labels to few groups, by an editable TOML file.

    [groups]
    Elves = ["Elven", "Elf", "Elves of *"]

Labels are compared without regard to case and spacing; `*` stands for any run of characters, and a label
that is written out goes before one with a star. What a mapping does not know keeps its label, is
left out, or becomes one group, as the options say; the report names it either way.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from training.data.corpus import Corpus
from training.errors import DataError, UserError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_MAPPING = Path(__file__).with_name("name_groups.toml")
UNKNOWN = "unknown"
UnmappedRule = Literal["keep", "unknown", "drop", "error"]
UNMAPPED_RULES = ("keep", "unknown", "drop", "error")


@dataclass(frozen=True)
class Grouping:
    """Group names in file order, the group of every normalised label, and labels with a star in file order."""

    groups: tuple[str, ...]
    labels: dict[str, str]
    patterns: tuple[tuple[re.Pattern[str], str], ...] = ()

    def group_of(self, label: str) -> str | None:
        """The group of a label, None when the mapping does not know it."""
        text = _normal(label)
        found = self.labels.get(text)
        if found is not None:
            return found
        return next((group for pattern, group in self.patterns if pattern.fullmatch(text)), None)


@dataclass(frozen=True)
class GroupingReport:
    """Documents per group after grouping, labels without a group, groups that were too small."""

    counts: dict[str, int]
    unmapped: dict[str, int]
    small: dict[str, int]
    dropped: int


def _normal(label: str) -> str:
    return " ".join(label.casefold().split())


def load_grouping(path: Path = DEFAULT_MAPPING) -> Grouping:
    """Read a mapping. Raises DataError for bad TOML, a label in two groups, anything but lists of labels."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not TOML ({error})") from None
    unknown = set(table) - {"groups"}
    groups = table.get("groups")
    if unknown or not isinstance(groups, dict) or not groups:
        raise DataError(f"{path}: needs one table [groups]; found {', '.join(sorted(table)) or 'nothing'}")
    labels: dict[str, str] = {}
    patterns = []
    for group, members in groups.items():
        if not isinstance(members, list) or not all(isinstance(member, str) for member in members):
            raise DataError(f"{path}: group {group!r} must be a list of labels, found {members!r}")
        for label in [group, *members]:
            owner = labels.setdefault(_normal(label), group)
            if owner != group:
                raise DataError(f"{path}: label {label!r} stands in the groups {owner!r} and {group!r}")
            if "*" in label:
                parts = map(re.escape, _normal(label).split("*"))
                patterns.append((re.compile(".*".join(parts)), group))
    return Grouping(tuple(groups), labels, tuple(patterns))


def apply_grouping(
    corpus: Corpus, grouping: Grouping, unmapped: UnmappedRule = "keep", min_count: int = 1
) -> tuple[Corpus, GroupingReport]:
    """Corpus with groups as categories. Groups with fewer than `min_count` documents become `unknown`.

    Documents without a category stay without. Raises UserError for an unmapped label under `error`, and
    when nothing would be left.
    """
    if unmapped not in UNMAPPED_RULES:
        raise UserError(f"unmapped is {unmapped!r}; allowed are {', '.join(UNMAPPED_RULES)}")
    if min_count < 1:
        raise UserError(f"min_count is {min_count}; it must be 1 or more")
    missing = Counter(
        d.category for d in corpus.documents if d.category and grouping.group_of(d.category) is None
    )
    if missing and unmapped == "error":
        listed = ", ".join(f"{label} ({count})" for label, count in missing.most_common(20))
        raise UserError(f"{len(missing)} labels have no group: {listed}")
    documents = []
    for document in corpus.documents:
        if document.category is None:
            documents.append(document)
            continue
        group = grouping.group_of(document.category)
        if group is None and unmapped == "drop":
            continue
        if group is None:
            group = UNKNOWN if unmapped == "unknown" else document.category
        documents.append(replace(document, category=group))
    counts = Counter(d.category for d in documents if d.category)
    small = {name: count for name, count in counts.items() if count < min_count and name != UNKNOWN}
    documents = [replace(d, category=UNKNOWN) if d.category in small else d for d in documents]
    if not documents:
        raise UserError(f"corpus {corpus.name!r}: no document has a label that the mapping knows")
    grouped = replace(corpus, documents=tuple(documents))
    report = GroupingReport(
        grouped.categories, dict(missing.most_common()), small, len(corpus.documents) - len(documents)
    )
    return grouped, report
