"""Linked items to clean ones: upgrades and copies merged, sentences split, every loss logged."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from training.data.fmg_clean import (
    HOLE,
    is_blank,
    is_body_part,
    is_carving,
    plain,
    speaks_of_the_console,
    take_labels,
    take_prefix,
    take_table,
    take_upgrade,
)
from training.data.fmg_pairing import Item, Part
from training.data.report import DropLog
from training.data.sentences import split_sentences

INFUSION_STEP = 100  # an infused weapon has its base's id plus a multiple of this
INFUSION_REACH = 1500


@dataclass(frozen=True)
class CleanItem:
    """`sentences` is the description, short text first. `type` is the weapon type or school of magic."""

    kind: str
    id: int
    folder: Path
    name: str | None
    type: str | None
    sentences: tuple[str, ...]
    level: int = 0


def clean_items(
    items: list[Item], log: DropLog, keep_skills: bool, keep_duplicates: bool, min_chars: int
) -> list[CleanItem]:
    """Items worth keeping, in their order."""
    cleaned = [c for item in items if (c := _clean(item, log, keep_skills)) is not None]
    kept = _merge_variants(cleaned, log)
    kept = _drop_without_text(kept, log, min_chars)
    return kept if keep_duplicates else _merge_duplicates(kept, log)


def _clean(item: Item, log: DropLog, keep_skills: bool) -> CleanItem | None:
    raw_name = item.texts.get("name")
    where = f"{item.kind} {item.id}: {raw_name or '∅'}"
    for part, text in item.texts.items():
        if is_blank(text):
            log.drop(
                "entry", "blank (empty, %null%, no_text …)", f"{item.kind} {part} {item.id}: {text or '∅'}"
            )
    name: str | None = None
    level, school = 0, None
    if not is_blank(raw_name):
        name = " ".join(plain(raw_name or "").split())
        if HOLE in name:
            log.drop("item", "name has a gap for a value", where)
            return None
        if is_body_part(name, item.kind):
            log.drop("item", "body part", where)
            return None
        if is_carving(name):
            log.drop("item", "carving", where)
            return None
        name, school = take_prefix(name)
        if school:
            log.note("prefix taken off a name (Sorcery:, Miracle:, Pyromancy: …)")
        name, level = take_upgrade(name)
    weapon_type = None
    sentences: list[str] = []
    seen: set[str] = set()
    parts: tuple[Part, ...] = ("short", "long")
    for part in parts:
        text = item.texts.get(part)
        if is_blank(text):
            continue
        labelled = take_labels(plain(text or ""))
        for label in labelled.fields:
            log.note(f"label line taken off ({label}:)")
        weapon_type = weapon_type or labelled.fields.get("weapon type") or None
        body = labelled.text
        if labelled.skill and keep_skills:
            body = f"{body}\n\n{labelled.skill}"
        elif labelled.skill:
            log.drop("sentence", "text under Skill:", f"{where}: {labelled.skill}")
        for whole in split_sentences(body):
            sentence, rows = take_table(whole)
            if rows:
                log.drop("sentence", "rows of a table, not a sentence", f"{where}: {rows}")
            if not sentence:
                continue
            if HOLE in sentence:
                log.drop("sentence", "has a gap for a value or button", f"{where}: {sentence}")
            elif speaks_of_the_console(sentence):
                log.drop("sentence", "speaks of the console or network", f"{where}: {sentence}")
            elif sentence.casefold() in seen:
                log.drop("sentence", "said twice in one item (short and long text)", f"{where}: {sentence}")
            else:
                seen.add(sentence.casefold())
                sentences.append(sentence)
    if name is None and not sentences:
        log.drop("item", "nothing left of its entries", where)
        return None
    type_ = (weapon_type or school or "").lower() or None
    return CleanItem(item.kind, item.id, item.folder, name, type_, tuple(sentences), level)


def _merge_variants(items: list[CleanItem], log: DropLog) -> list[CleanItem]:
    """Fold upgrades (`+3`) and infusions (`Heavy …` at a hundred's offset) into their base.

    A variant with words of its own stays, under the base's name.
    """
    by_name: dict[tuple[Path, str, str], list[CleanItem]] = {}
    for item in items:
        if item.name is not None:
            by_name.setdefault((item.folder, item.kind, item.name.casefold()), []).append(item)
    by_id = {(item.folder, item.kind, item.id): item for item in items}
    kept: list[CleanItem] = []
    said: dict[tuple[Path, str, str], set[tuple[str, ...]]] = {}
    for item in items:
        if item.name is None:
            kept.append(item)
            continue
        where = f"{item.kind} {item.id}: {item.name}{f' +{item.level}' if item.level else ''}"
        key = (item.folder, item.kind, item.name.casefold())
        family = by_name[key]
        texts = said.setdefault(key, set())
        if item.level:
            first = family[0] is item  # no entry without a level stands before it
            if not first and (not item.sentences or item.sentences in texts):
                log.drop("item", "upgrade (+N) of an item that is there", where)
                continue
            log.note(
                "upgrade (+N) taken as its item: no entry without a level stands before it"
                if first
                else "upgrade (+N) kept under its base's name: its text is its own"
            )
        else:
            base = _infusion_base(item, by_id)
            if base is not None and (not item.sentences or item.sentences == base.sentences):
                log.drop("item", "infusion of an item that is there", f"{where} (of {base.name})")
                continue
        texts.add(item.sentences)
        kept.append(item)
    return kept


def _infusion_base(item: CleanItem, by_id: dict[tuple[Path, str, int], CleanItem]) -> CleanItem | None:
    if item.kind not in ("weapon", "item") or item.name is None:
        return None
    for offset in range(INFUSION_STEP, INFUSION_REACH + 1, INFUSION_STEP):
        base = by_id.get((item.folder, item.kind, item.id - offset))
        if (
            base is not None
            and base.name
            and re.fullmatch(rf"\S+ {re.escape(base.name)}", item.name, re.IGNORECASE)
        ):
            return base
    return None


def _drop_without_text(items: list[CleanItem], log: DropLog, min_chars: int) -> list[CleanItem]:
    kept = []
    for item in items:
        size = len(" ".join(item.sentences))
        if not item.sentences:
            log.drop("item", "name without a description", f"{item.kind} {item.id}: {item.name}")
        elif size < min_chars:
            log.drop(
                "item",
                f"description shorter than {min_chars} characters",
                f"{item.kind} {item.id}: {item.name}",
            )
        else:
            kept.append(item)
    return kept


def _merge_duplicates(items: list[CleanItem], log: DropLog) -> list[CleanItem]:
    """One item per description. Sentences that only introduce the piece by its name (`Iron Helm worn by …`)
    do not make a description another one."""
    first: dict[tuple[str, ...], CleanItem] = {}
    kept = []
    for item in items:
        key = tuple(s.casefold() for s in item.sentences if not _introduces(s, item.name))
        key = key or tuple(s.casefold() for s in item.sentences)
        earlier = first.get(key)
        if earlier is None:
            first[key] = item
            kept.append(item)
        else:
            log.drop(
                "item",
                "same description as an earlier item",
                f"{item.kind} {item.id}: {item.name} = {earlier.name} ({earlier.kind} {earlier.id})",
            )
    return kept


def _introduces(sentence: str, name: str | None) -> bool:
    lowered = sentence.casefold()
    return name is not None and lowered.startswith(name.casefold()) and " worn by " in lowered
