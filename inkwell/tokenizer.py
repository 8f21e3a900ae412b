"""Text to token ids and back: single characters, or byte-level BPE. Both lose nothing they know.

Every tokenizer has the end mark as id 0. It begins a text as well as ending one, so that a model's first
prediction is "what may a text begin with".
"""

from __future__ import annotations

import codecs
import json
import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from inkwell.errors import BundleError

END_ID = 0
END_TEXT = "<|end|>"
FORMAT = 1

# What writers type and a small corpus seldom holds. Tried only when the character itself is not known.
_PLAIN = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "...", "\u00a0": " ", "\t": " "}
)


class Tokenizer(Protocol):
    """What the engine's text side needs of a tokenizer."""

    kind: str

    def __hash__(self) -> int: ...

    @property
    def size(self) -> int:
        """Number of ids, the end mark included."""

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, without end marks. Unknown characters are replaced where a plain form is known,
        else left out; `unknown` tells which."""

    def unknown(self, text: str) -> str:
        """The characters of `text` that `encode` has to leave out, each once, in order."""

    def decode(self, ids: list[int]) -> str:
        """Text of `ids`; the end mark gives nothing, broken UTF-8 at the cut gives U+FFFD."""

    def piece(self, token: int) -> bytes:
        """UTF-8 bytes that `token` adds to a text; empty for the end mark."""

    def save(self, path: Path) -> None:
        """Write the tokenizer to the JSON file `path`."""


class CharTokenizer:
    """One id per character, in code point order, so that the same text always gives the same ids."""

    kind = "chars"

    def __init__(self, characters: str) -> None:
        self.characters = "".join(sorted(set(characters)))
        self._ids = {character: index + 1 for index, character in enumerate(self.characters)}
        self._pieces = [b"", *(character.encode() for character in self.characters)]

    @classmethod
    def fit(cls, texts: list[str]) -> CharTokenizer:
        """The tokenizer of all characters in `texts`, in their composed form (NFC)."""
        found: set[str] = set()
        for text in texts:
            found.update(unicodedata.normalize("NFC", text))
        return cls("".join(found))

    @property
    def size(self) -> int:
        return len(self.characters) + 1

    def _known_form(self, character: str) -> str | None:
        if character in self._ids:
            return character
        for form in (
            character.translate(_PLAIN),
            "".join(c for c in unicodedata.normalize("NFKD", character) if not unicodedata.combining(c)),
            character.lower(),
            character.upper(),
        ):
            if form and all(c in self._ids for c in form):
                return form
        return None

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for character in unicodedata.normalize("NFC", text):
            index = self._ids.get(character)
            if index is not None:
                ids.append(index)
                continue
            form = self._known_form(character)
            if form is not None:
                ids.extend(self._ids[c] for c in form)
        return ids

    def unknown(self, text: str) -> str:
        composed = dict.fromkeys(unicodedata.normalize("NFC", text))
        return "".join(c for c in composed if self._known_form(c) is None)

    def decode(self, ids: list[int]) -> str:
        return "".join(self.characters[i - 1] for i in ids if i != END_ID)

    def piece(self, token: int) -> bytes:
        return self._pieces[token]

    def save(self, path: Path) -> None:
        value = {"format": FORMAT, "kind": self.kind, "characters": list(self.characters)}
        path.write_text(json.dumps(value, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


class BPETokenizer:
    """Byte-level BPE of the `tokenizers` library: any Unicode text comes back exactly, spaces included.

    Merges never cross a word's leading space, so a word looks the same to the model wherever it stands.
    """

    kind = "bpe"

    def __init__(self, definition: str) -> None:
        from tokenizers import Tokenizer as Backend

        self._definition = definition
        self._backend = Backend.from_str(definition)
        unicode_to_byte = {character: byte for byte, character in _byte_alphabet().items()}
        pieces: list[bytes] = []
        for index in range(self._backend.get_vocab_size()):
            token = self._backend.id_to_token(index)
            pieces.append(b"" if index == END_ID else bytes(unicode_to_byte[c] for c in token or ""))
        self._pieces = pieces

    @classmethod
    def fit(cls, texts: list[str], size: int) -> BPETokenizer:
        """Learn up to `size` ids from `texts`. 257 (all bytes and the end mark) is the smallest size."""
        from tokenizers import Tokenizer as Backend
        from tokenizers import decoders, models, pre_tokenizers, trainers

        if size < 257:
            raise ValueError(f"vocabulary size is {size}; byte-level BPE needs 257 or more")
        backend = Backend(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=2,
            special_tokens=[END_TEXT],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        backend.train_from_iterator(texts, trainer)
        return cls(backend.to_str())

    @property
    def size(self) -> int:
        return len(self._pieces)

    def encode(self, text: str) -> list[int]:
        # A text that spells the end mark must not become one: split around it and encode its parts.
        if END_TEXT in text:
            ids: list[int] = []
            for index, part in enumerate(text.split(END_TEXT)):
                if index:
                    ids.extend(self.encode("<|") + self.encode("end|>"))
                ids.extend(self.encode(part) if part else [])
            return ids
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def unknown(self, text: str) -> str:
        return ""

    def decode(self, ids: list[int]) -> str:
        return b"".join(self._pieces[i] for i in ids).decode("utf-8", errors="replace")

    def piece(self, token: int) -> bytes:
        return self._pieces[token]

    def save(self, path: Path) -> None:
        value = {"format": FORMAT, "kind": self.kind, "definition": json.loads(self._definition)}
        path.write_text(json.dumps(value, ensure_ascii=False) + "\n", encoding="utf-8")


def load_tokenizer(path: Path) -> CharTokenizer | BPETokenizer:
    """Read what `save` wrote. Raises BundleError naming the file when it is not that."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["format"] != FORMAT:
            raise BundleError(
                f"{path.name}: format {value['format']!r} is not known; this version reads {FORMAT}"
            )
        if value["kind"] == CharTokenizer.kind:
            return CharTokenizer("".join(value["characters"]))
        if value["kind"] == BPETokenizer.kind:
            return BPETokenizer(json.dumps(value["definition"]))
    except BundleError:
        raise
    except OSError as error:
        raise BundleError(f"{path.name} cannot be read: {error}") from error
    except Exception as error:  # the tokenizers library raises a bare Exception for a damaged definition
        raise BundleError(f"{path.name} is not a tokenizer: {error}") from error
    raise BundleError(f"{path.name}: kind {value['kind']!r} is not known; allowed are 'chars', 'bpe'")


class TextStream:
    """Turns ids into text as they come, holding back bytes of a character that is not whole yet."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._whole = _whole_pieces(tokenizer)
        self._holds = False  # bytes of a character that is not whole yet

    def push(self, token: int) -> str:
        """Text that became certain with `token`."""
        text = None if self._holds else self._whole[token]
        if text is not None:
            return text
        text = self._decoder.decode(self._tokenizer.piece(token))
        self._holds = self._decoder.getstate()[0] != b""
        return text

    def fork(self) -> TextStream:
        """Another stream in the same place."""
        other = TextStream(self._tokenizer)
        other._decoder.setstate(self._decoder.getstate())
        other._holds = self._holds
        return other

    def flush(self) -> str:
        """What is left at the end: U+FFFD when a character was cut, else nothing."""
        self._holds = False
        return self._decoder.decode(b"", final=True)


@lru_cache(maxsize=16)
def _whole_pieces(tokenizer: Tokenizer) -> tuple[str | None, ...]:
    """Text of every token that is whole characters by itself; None of the others."""

    def text_of(piece: bytes) -> str | None:
        try:
            return piece.decode("utf-8")
        except UnicodeDecodeError:
            return None

    return tuple(text_of(tokenizer.piece(token)) for token in range(tokenizer.size))


def _byte_alphabet() -> dict[int, str]:
    """Byte → the printable character that byte-level BPE writes for it (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {byte: chr(byte) for byte in printable}
    spare = 256
    for byte in range(256):
        if byte not in table:
            table[byte] = chr(spare)
            spare += 1
    return table
