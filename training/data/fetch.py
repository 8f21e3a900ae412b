"""Bringing a corpus of the catalogue here: from the cache, a local mirror or the net, always hash-checked."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from training.data.corpus import Corpus, Document, Source
from training.data.download import Progress, download
from training.data.load import LoadOptions, load
from training.data.recipes import RECIPES
from training.data.sources import Output, RemoteFile, SourceSpec
from training.data.textio import sha256_file, write_atomically
from training.errors import DataError, FetchError, IntegrityError

Say = Callable[[str], None]


@dataclass(frozen=True)
class Fetched:
    """The corpus file, and whether its hash (or those of all its parts) stands in the catalogue."""

    spec: SourceSpec
    path: Path
    verified: bool


@dataclass(frozen=True)
class Fetcher:
    """data_dir: the cache; a corpus lies in a folder of its name. mirror: a folder used instead of the net.

    strict: a derived file that differs from the recorded hash is an error rather than a notice.
    """

    data_dir: Path
    mirror: Path | None = None
    strict: bool = False
    say: Say = print
    progress: Progress | None = None

    def fetch(self, spec: SourceSpec) -> Fetched:
        """All that the corpus needs. Raises FetchError, IntegrityError or DataError."""
        folder = self.data_dir / spec.name
        if spec.output is None:
            verified = [self._file(spec, file, folder) for file in spec.files]
            return Fetched(spec, folder / spec.corpus.file, all(verified))
        target = folder / spec.output.name
        if self._have_output(spec, spec.output, target):
            return Fetched(spec, target, True)
        verified = [self._file(spec, file, folder) for file in spec.files]
        return Fetched(spec, target, self._make(spec, spec.output, folder, all(verified)))

    def _have_output(self, spec: SourceSpec, output: Output, target: Path) -> bool:
        """Whether the derived file itself, with its recorded hash, lies in the cache or the mirror."""
        if output.sha256 is None:
            return False
        if target.is_file() and sha256_file(target) == output.sha256:
            return True
        found = self._in_mirror(spec, output.name)
        if found is None:
            return False
        actual = sha256_file(found)
        if actual != output.sha256:
            raise IntegrityError(f"{found}: has sha256 {actual}, the catalogue says {output.sha256}")
        _copy(found, target)
        self.say(f"{output.name}: taken from {found}")
        return True

    def _file(self, spec: SourceSpec, file: RemoteFile, folder: Path) -> bool:
        """Make sure of one downloaded file; whether its hash stands in the catalogue."""
        target = folder / file.name
        expected = file.sha256 or _pinned(target)
        if target.is_file() and expected is not None:
            actual = sha256_file(target)
            if actual == expected:
                return file.sha256 is not None
            if file.sha256 is None:
                raise IntegrityError(
                    f"{target}: has sha256 {actual}, the first download had {expected}; if the change is "
                    f"wanted, delete it and {_pin_path(target).name}"
                )
            self.say(f"{file.name}: the copy in the cache is damaged, fetching it again")
        if self.mirror is not None:
            self._from_mirror(spec, file, target, expected)
        elif not target.is_file() or expected is not None:
            download(file.url, target, expected, self.progress)
        if file.sha256 is None and _pinned(target) is None:
            pin = sha256_file(target)
            write_atomically(_pin_path(target), [f"{pin}  {file.name}\n"])
            self.say(f"{file.name}: no hash is recorded for it; trusted this once and pinned as {pin}")
        return file.sha256 is not None

    def _from_mirror(self, spec: SourceSpec, file: RemoteFile, target: Path, expected: str | None) -> None:
        found = self._in_mirror(spec, file.name)
        if found is None:
            places = ", ".join(str(place / file.name) for place in self._mirror_places(spec))
            raise FetchError(f"{file.name}: not in the mirror; looked for {places}")
        actual = sha256_file(found)
        if expected is not None and actual != expected:
            raise IntegrityError(f"{found}: has sha256 {actual}, {expected} is recorded")
        _copy(found, target)
        self.say(f"{file.name}: taken from {found}")

    def _mirror_places(self, spec: SourceSpec) -> list[Path]:
        if self.mirror is None:
            return []
        return [self.mirror, *(self.mirror / name for name in dict.fromkeys((spec.name, spec.folder)))]

    def _in_mirror(self, spec: SourceSpec, name: str) -> Path | None:
        return next((p / name for p in self._mirror_places(spec) if (p / name).is_file()), None)

    def _make(self, spec: SourceSpec, output: Output, folder: Path, inputs_known: bool) -> bool:
        text = RECIPES[output.recipe]([folder / file.name for file in spec.files])
        if not text.strip():
            raise DataError(f"{spec.name}: the recipe {output.recipe} made an empty file")
        target = folder / output.name
        write_atomically(target, [text])
        self.say(f"{output.name}: made from {len(spec.files)} files, {len(text)} characters")
        notice = None
        actual = sha256_file(target)
        if output.sha256 is not None and actual != output.sha256:
            notice = f"{output.name}: has sha256 {actual}, the catalogue says {output.sha256}"
        elif output.characters is not None and len(text) != output.characters:
            notice = f"{output.name}: has {len(text)} characters, the catalogue says {output.characters}"
        if notice is None:
            return inputs_known or output.sha256 is not None
        if self.strict:
            target.unlink()
            raise IntegrityError(notice)
        self.say(f"{notice}; its figures cannot be compared with published ones")
        return False


def open_source(fetched: Fetched, limit: int | None = None) -> Corpus:
    """The corpus of a fetched file, with licence and origin. Raises DataError."""
    spec, reading = fetched.spec, fetched.spec.corpus
    options = LoadOptions(
        division=reading.division,
        text_column=reading.text_column,
        title_column=reading.title_column,
        category_column=reading.category_column,
        limit=limit,
    )
    corpus = load(fetched.path, reading.kind, options, spec.name)
    if reading.books:
        corpus = replace(corpus, documents=cut_books(corpus.documents[0].text, reading.books, fetched.path))
    sources = tuple(Source(file.name, file.url, file.sha256, spec.licence) for file in spec.files)
    return replace(corpus, sources=sources)


def cut_books(text: str, titles: tuple[str, ...], path: Path) -> tuple[Document, ...]:
    """One document per book; a title stands on a line of its own after two blank lines, or at the start.

    Raises DataError naming a title that is not found behind the one before it.
    """
    starts: list[int] = []
    for title in titles:
        if not starts and text.startswith(f"{title}\n"):
            starts.append(0)
            continue
        mark = f"\n\n\n{title}\n"
        at = text.find(mark, starts[-1] if starts else 0)
        if at < 0:
            raise DataError(f"{path}: the book {title!r} is not there, or not after {titles[: len(starts)]}")
        starts.append(at + 3)
    ends = [*starts[1:], len(text)]
    return tuple(
        Document(text[start:end].rstrip("\n"), id=title, group=title)
        for title, start, end in zip(titles, starts, ends, strict=True)
    )


def _pin_path(target: Path) -> Path:
    return target.with_name(target.name + ".sha256")


def _pinned(target: Path) -> str | None:
    path = _pin_path(target)
    if not path.is_file():
        return None
    value = path.read_text(encoding="utf-8").split()[:1]
    if not value or len(value[0]) != 64:
        raise DataError(f"{path}: does not begin with a sha256; delete it to trust {target.name} anew")
    return value[0]


def _copy(source: Path, target: Path) -> None:
    temporary = target.with_name(target.name + ".copying")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, temporary)
        temporary.replace(target)
    except OSError as error:
        raise FetchError(f"{target}: cannot be written ({error.strerror or error})") from None
    finally:
        temporary.unlink(missing_ok=True)
