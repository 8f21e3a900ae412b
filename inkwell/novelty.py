"""How much of a text is copied from the training text: exact, in well under a millisecond.

On disk the index is the training text itself, compressed; a suffix array is built over it when it is loaded.
"""

from __future__ import annotations

import bz2
import json
import lzma
import unicodedata
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from inkwell.errors import BundleError
from inkwell.suffixes import Query, SuffixArray

FORMAT = 1
MIN_OVERLAP = 24
_SEPARATOR = "\0"
# names and prose pack best with different settings; all are tried and the smallest is kept
_LZMA: dict[str, list[dict[str, Any]]] = {
    f"lzma{bits}": [
        {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": bits, "lp": 0, "pb": 0}
    ]
    for bits in (3, 4)
}


@dataclass(frozen=True)
class Overlap:
    """What a text shares with the training text. Lengths and places count characters of its NFC form.

    `start` and `end` bound the longest copied part in the text, `excerpt`; it stands in training document
    number `document` at `offset`. `ratio` is the share of characters that lie in copies of `min_overlap`
    characters or more. `copy` tells whether the whole text is a training document, letter case aside.
    """

    longest: int
    ratio: float
    start: int = 0
    end: int = 0
    excerpt: str = ""
    document: int | None = None
    title: str | None = None
    offset: int | None = None
    copy: bool = False


class NoveltyIndex:
    """The training documents, ready to be searched."""

    def __init__(
        self, documents: Sequence[str], titles: Sequence[str] = (), min_overlap: int = MIN_OVERLAP
    ) -> None:
        if min_overlap < 1:
            raise ValueError(f"min_overlap is {min_overlap}; it must be 1 or more")
        if titles and len(titles) != len(documents):
            raise ValueError(f"{len(titles)} titles for {len(documents)} documents; give one each, or none")
        for number, document in enumerate(documents):
            if _SEPARATOR in document:
                raise ValueError(
                    f"document {number} holds the character U+0000, which marks ends of documents"
                )
        self.documents = tuple(unicodedata.normalize("NFC", document) for document in documents)
        self.titles = tuple(titles)
        self.min_overlap = min_overlap

    @classmethod
    def build(
        cls, texts: Iterable[str], titles: Sequence[str] = (), min_overlap: int = MIN_OVERLAP
    ) -> NoveltyIndex:
        """The index of training documents, with a title each if they have one. Copies count towards
        `Overlap.ratio` from `min_overlap` characters on."""
        return cls(tuple(texts), titles, min_overlap)

    def save(self, path: Path) -> None:
        """Write the index to `path` (.npz, nothing pickled)."""
        raw = _SEPARATOR.join(self.documents).encode()
        packed = {"bz2": bz2.compress(raw, 9)}
        packed.update((name, lzma.compress(raw, lzma.FORMAT_RAW, filters=how)) for name, how in _LZMA.items())
        codec = min(packed, key=lambda name: len(packed[name]))
        titles = (
            zlib.compress(json.dumps(self.titles, ensure_ascii=False).encode(), 9) if self.titles else b""
        )
        header = {
            "format": FORMAT,
            "codec": codec,
            "documents": len(self.documents),
            "min_overlap": self.min_overlap,
            "crc32": zlib.crc32(raw),
            "titles": len(titles),
        }
        # one array: each further one would cost as much as a few dozen names
        whole = json.dumps(header).encode() + b"\n" + titles + packed[codec]
        with path.open("wb") as file:
            np.savez(file, index=np.frombuffer(whole, dtype=np.uint8))

    @classmethod
    def load(cls, path: Path) -> NoveltyIndex:
        """Read what `save` wrote and make it ready to search. Raises BundleError naming the file."""
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                first, _, rest = file["index"].tobytes().partition(b"\n")
            header = json.loads(first)
            if header["format"] != FORMAT:
                raise BundleError(
                    f"{path.name}: format {header['format']!r} is not known; this version reads {FORMAT}"
                )
            titles, packed = rest[: header["titles"]], rest[header["titles"] :]
            if header["codec"] == "bz2":
                raw = bz2.decompress(packed)
            else:
                raw = lzma.decompress(packed, lzma.FORMAT_RAW, filters=_LZMA[header["codec"]])
            if zlib.crc32(raw) != header["crc32"]:
                raise BundleError(f"{path.name} is damaged: the training text does not fit its checksum")
            documents = raw.decode().split(_SEPARATOR) if header["documents"] else []
            index = cls(
                documents, json.loads(zlib.decompress(titles)) if titles else (), header["min_overlap"]
            )
        except BundleError:
            raise
        except Exception as error:  # a damaged archive, codec or header each raise their own kind
            raise BundleError(f"{path.name} is not a novelty index: {error}") from error
        index.check("")
        return index

    def contains(self, text: str) -> bool:
        """Whether `text` is, as a whole, a training document; letter case and outer white space aside."""
        return _folded(unicodedata.normalize("NFC", text)) in self._whole

    def check(self, text: str) -> Overlap:
        """Compare `text` with the training text."""
        text = unicodedata.normalize("NFC", text)
        query = Query(self._suffixes, text)
        length, start, place = query.longest()
        ratio = query.covered(self.min_overlap) / len(text) if text else 0.0
        copy = _folded(text) in self._whole
        if length == 0:
            return Overlap(0, ratio, copy=copy)
        document = bisect_right(self._starts, place) - 1
        title = self.titles[document] if self.titles else None
        end, offset = start + length, place - self._starts[document]
        return Overlap(length, ratio, start, end, text[start:end], document, title, offset, copy)

    @cached_property
    def _suffixes(self) -> SuffixArray:
        return SuffixArray(_SEPARATOR.join(self.documents))

    @cached_property
    def _starts(self) -> list[int]:
        lengths = [len(document) + 1 for document in self.documents]
        return [0, *np.cumsum(lengths).tolist()][: len(lengths)]

    @cached_property
    def _whole(self) -> frozenset[str]:
        return frozenset(_folded(document) for document in self.documents)


def memorisation(texts: Iterable[str], index: NoveltyIndex) -> dict[str, float]:
    """How much a collection of texts repeats the training text: `texts` (their number), `exact_copies` (share
    that are whole training documents), `mean_longest`, `max_longest` (characters), `mean_ratio`."""
    found = [index.check(text) for text in texts]
    count = max(len(found), 1)
    return {
        "texts": float(len(found)),
        "exact_copies": sum(overlap.copy for overlap in found) / count,
        "mean_longest": sum(overlap.longest for overlap in found) / count,
        "max_longest": float(max((overlap.longest for overlap in found), default=0)),
        "mean_ratio": sum(overlap.ratio for overlap in found) / count,
    }


def _folded(text: str) -> str:
    return text.strip().casefold()
