"""From a folder of game texts to a corpus: read, link, clean, merge, and say what was left out.

`items` gives one document per item, `Name. Short text. Long text.`; `sentences` gives one per sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from training.data.corpus import Corpus, Document, Source
from training.data.fmg_binary import read_fmg_binary
from training.data.fmg_clean import HOLE, is_blank, is_menu_string, plain
from training.data.fmg_file import FmgFile, is_fmg_path
from training.data.fmg_items import CleanItem, clean_items
from training.data.fmg_pairing import Role, link, role_of
from training.data.fmg_xml import read_fmg_xml
from training.data.report import DropLog, DropReport
from training.data.sentences import ends_sentence, split_sentences
from training.data.textio import sha256_file
from training.errors import DataError, UserError

CATEGORIES = ("kind", "type", "none")
OUTPUTS = ("items", "sentences")


@dataclass(frozen=True)
class SoulsOptions:
    """output: items or sentences. category: kind (weapon, ring …), type (`Weapon type:` line or the name's
    prefix, else kind) or none. keep_lines: also take talk and other texts of files without items.
    keep_skills: keep the texts under `Skill:`. keep_duplicates: do not merge equal descriptions.
    min_chars: shorter descriptions and lines are left out."""

    output: Literal["items", "sentences"] = "items"
    category: Literal["kind", "type", "none"] = "kind"
    keep_lines: bool = True
    keep_skills: bool = False
    keep_duplicates: bool = False
    min_chars: int = 5

    def __post_init__(self) -> None:
        if self.output not in OUTPUTS:
            raise UserError(f"output is {self.output!r}; allowed are {', '.join(OUTPUTS)}")
        if self.category not in CATEGORIES:
            raise UserError(f"category is {self.category!r}; allowed are {', '.join(CATEGORIES)}")
        if self.min_chars < 1:
            raise UserError(f"min_chars is {self.min_chars}; it must be 1 or more")


def find_fmg_files(path: Path) -> list[Path]:
    """The text tables under a folder in a fixed order, or the one file given. Raises DataError if none.

    Where a table lies there unpacked (`x.fmg.xml`) and as the game has it (`x.fmg`), the former is taken.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    found = sorted(p for p in path.rglob("*") if p.is_file() and is_fmg_path(p))
    if not found:
        raise DataError(f"{path}: no *.fmg.xml, *.fmg, *.msgbnd or *.dcx of them in this folder")
    best: dict[Path, Path] = {}
    for candidate in sorted(
        found, key=lambda p: (p.suffix.lower() != ".xml", p.suffix.lower() == ".dcx", str(p))
    ):
        plain_name = candidate
        while plain_name.suffix.lower() in (".xml", ".dcx"):
            plain_name = plain_name.with_suffix("")
        best.setdefault(plain_name, candidate)
    return sorted(best.values())


def read_fmg(path: Path) -> list[FmgFile]:
    """The table of a file, or those of a bundle; XML or binary by the first byte."""
    try:
        with path.open("rb") as stream:
            head = stream.read(4)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if not head:
        raise DataError(f"{path}: the file is empty")
    is_markup = (
        head.lstrip()[:1] == b"<" or head[:3] == b"\xef\xbb\xbf" or head[:2] in (b"\xff\xfe", b"\xfe\xff")
    )
    return [read_fmg_xml(path)] if is_markup else read_fmg_binary(path)


def build_souls(
    path: Path, options: SoulsOptions | None = None, name: str | None = None
) -> tuple[Corpus, DropReport]:
    """Corpus and drop report of a file or folder. Raises DataError when nothing is left."""
    options = options or SoulsOptions()
    log = DropLog()
    paired: list[tuple[FmgFile, Role]] = []
    loose: list[FmgFile] = []
    sources = []
    read = 0
    root = path if path.is_dir() else path.parent
    for file_path in find_fmg_files(path):
        sources.append(Source(file_path.relative_to(root).as_posix(), sha256=sha256_file(file_path)))
        for file in read_fmg(file_path):
            read += len(file.entries)
            role = role_of(file.stem)
            shown, size = file.path.relative_to(root).as_posix(), f"{len(file.entries)} entries"
            if role is None:
                loose.append(file)
                log.file(shown, f"lines, {size}")
            else:
                paired.append((file, role))
                what = " ".join(filter(None, (role.kind, role.part, role.layer)))
                log.file(shown, f"{what}, {size}, {file.version or 'version not known'}")
    linked = link(paired)
    loose_entries = sum(len(file.entries) for file in loose)
    log.stage("entries", read)
    log.stage(f"items linked by id and {loose_entries:,} loose lines", len(linked))
    items = clean_items(linked, log, options.keep_skills, options.keep_duplicates, options.min_chars)
    lines = list(_clean_lines(loose, options, log, root))
    documents = tuple(_documents(items, lines, options, log, root))
    title = f"souls {options.output}"
    if not documents:
        raise DataError(f"{path}: nothing is left of {read} entries in {len(sources)} files after cleaning")
    corpus = Corpus("documents", documents, name or root.resolve().name, tuple(sources))
    return corpus, log.freeze(title, read, len(documents), "entries")


def _clean_lines(files: list[FmgFile], options: SoulsOptions, log: DropLog, root: Path) -> Iterator[Document]:
    seen: set[str] = set()
    for file in files:
        folder = file.path.parent.relative_to(root).as_posix()
        for entry in file.entries:
            raw = entry.text or ""
            if is_blank(entry.text):
                log.drop(
                    "entry",
                    "blank (empty, %null%, no_text …)",
                    f"{file.stem} {entry.id}: {raw.strip() or '∅'}",
                )
                continue
            where = f"{file.stem} {entry.id}: {raw}"
            text = " ".join(plain(raw).split())
            if not options.keep_lines:
                log.drop("entry", "not an item text", where)
            elif HOLE in text:
                log.drop("entry", "has a gap for a value or button", where)
            elif is_menu_string(text, file.stem):
                log.drop("entry", "menu or system message", where)
            elif not ends_sentence(text):
                log.drop("entry", "not a whole sentence", where)
            elif len(text) < options.min_chars:
                log.drop("entry", f"shorter than {options.min_chars} characters", where)
            elif text.casefold() in seen:
                log.drop("entry", "duplicate line", where)
            else:
                seen.add(text.casefold())
                category = None if options.category == "none" else "line"
                yield Document(text, category, f"{file.stem}/{entry.id}", None if folder == "." else folder)


def _documents(
    items: list[CleanItem], lines: list[Document], options: SoulsOptions, log: DropLog, root: Path
) -> Iterator[Document]:
    seen: set[str] = set()
    for item in items:
        folder = item.folder.relative_to(root).as_posix()
        category = {"none": None, "kind": item.kind, "type": item.type or item.kind}[options.category]
        group = None if folder == "." else folder
        key = f"{item.kind}/{item.id}"
        if options.output == "items":
            if item.name is None:
                log.drop("item", "description without a name", f"{key}: {item.sentences[0]}")
                continue
            head = item.name if ends_sentence(item.name) else f"{item.name}."
            yield Document(" ".join([head, *item.sentences]), category, key, group)
            continue
        for number, sentence in enumerate(item.sentences):
            if not ends_sentence(sentence) or len(sentence) < options.min_chars:
                log.drop("sentence", "not a whole sentence", f"{key}: {sentence}")
            elif sentence.casefold() in seen:
                log.drop("sentence", "duplicate sentence", f"{key}: {sentence}")
            else:
                seen.add(sentence.casefold())
                yield Document(sentence, category, f"{key}#{number}", group)
    for line in lines:
        if options.output == "items":
            yield line
            continue
        for number, sentence in enumerate(split_sentences(line.text)):
            if sentence.casefold() in seen:
                log.drop("sentence", "duplicate sentence", f"{line.id}: {sentence}")
            else:
                seen.add(sentence.casefold())
                yield replace(line, text=sentence, id=f"{line.id}#{number}")
