"""Text to ids and back, and text as it comes token by token."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inkwell.errors import BundleError
from inkwell.tokenizer import END_ID, END_TEXT, BPETokenizer, CharTokenizer, TextStream, load_tokenizer

CORPUS = [
    "The harbour lay quiet. The old lantern burned — 🏮 says the keeper — all night, naïve and 古い."
] * 3
BPE = BPETokenizer.fit(CORPUS, 340)
CHARS = CharTokenizer.fit(CORPUS)

unicode_text = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
with_marks = st.lists(
    st.one_of(unicode_text, st.just(END_TEXT), st.sampled_from(["<|", "end|>", "|>", " "]))
).map("".join)


@settings(max_examples=300)
@given(with_marks)
def test_bpe_gives_any_text_back_exactly(text: str) -> None:
    ids = BPE.encode(text)
    assert BPE.decode(ids) == text
    assert END_ID not in ids
    assert b"".join(BPE.piece(i) for i in ids).decode() == text
    assert BPE.unknown(text) == ""


@given(with_marks)
def test_a_stream_of_tokens_adds_up_to_the_text(text: str) -> None:
    stream = TextStream(BPE)
    assert "".join(stream.push(i) for i in BPE.encode(text)) == text
    assert stream.flush() == ""


@given(st.lists(st.integers(0, BPE.size - 1), max_size=30))
def test_any_ids_stream_into_what_they_decode_to(ids: list[int]) -> None:
    stream = TextStream(BPE)
    pieces = [stream.push(i) for i in ids]
    assert "".join(pieces) + stream.flush() == BPE.decode(ids)


def test_half_a_character_is_held_back_and_shown_when_it_stays_half() -> None:
    ids = [i for byte in "🦊".encode() for i in range(BPE.size) if BPE.piece(i) == bytes([byte])]
    assert len(ids) == 4
    stream = TextStream(BPE)
    assert [stream.push(i) for i in ids] == ["", "", "", "🦊"]
    assert [stream.push(i) for i in ids[:2]] == ["", ""]
    assert stream.flush() == "\ufffd"
    assert TextStream(BPE).push(END_ID) == ""


def test_bpe_learns_words_with_their_space_and_numbers_the_end_mark_0() -> None:
    assert BPE.piece(END_ID) == b""
    pieces = {BPE.piece(i) for i in range(BPE.size)}
    assert b" lantern" in pieces
    assert {bytes([b]) for b in range(256)} <= pieces
    assert 257 < BPE.size <= 340
    spelled = BPE.encode(END_TEXT)
    assert END_ID not in spelled
    assert BPE.decode([*BPE.encode("a"), END_ID, *BPE.encode("b")]) == "ab"


def test_bpe_needs_room_for_all_bytes() -> None:
    assert BPETokenizer.fit(["a"], 257).size == 257
    with pytest.raises(ValueError, match="vocabulary size is 256; byte-level BPE needs 257"):
        BPETokenizer.fit(["a"], 256)


def test_the_same_texts_give_the_same_tokenizers() -> None:
    assert [BPETokenizer.fit(CORPUS, 340).piece(i) for i in range(BPE.size)] == [
        BPE.piece(i) for i in range(BPE.size)
    ]
    assert CharTokenizer.fit(list(reversed(CORPUS))).characters == CHARS.characters


@given(st.text(alphabet=CHARS.characters, max_size=40))
def test_known_characters_come_back_exactly(text: str) -> None:
    text = unicodedata.normalize("NFC", text)
    ids = CHARS.encode(text)
    assert len(ids) == len(text)
    assert CHARS.decode([END_ID, *ids, END_ID]) == text
    assert b"".join(CHARS.piece(i) for i in ids).decode() == text
    assert CHARS.unknown(text) == ""


@given(unicode_text)
def test_what_is_not_known_is_named_and_the_rest_kept(text: str) -> None:
    unknown = CHARS.unknown(text)
    composed = unicodedata.normalize("NFC", text)
    assert all(c in composed and c not in CHARS.characters for c in unknown)
    assert len(set(unknown)) == len(unknown)
    assert CHARS.encode(text) == CHARS.encode("".join(c for c in composed if c not in unknown))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("‘it’s’", "'it's'"),
        ("“so”", '"so"'),
        ("wait…", "wait..."),
        ("a\u00a0b\tc", "a b c"),
        ("—–", "--"),
        ("café", "cafe"),
        ("cafe\u0301", "cafe"),
        ("ABC", "abc"),
        ("ﬁt", "fit"),
        ("x→y", "xy"),
    ],
)
def test_what_writers_type_is_read_as_its_plain_form(written: str, read: str) -> None:
    plain = CharTokenizer("abcdefghijklmnopqrstuvwxyz'\"-. ")
    assert plain.decode(plain.encode(written)) == read


def test_ids_follow_code_points_whatever_the_order() -> None:
    assert CharTokenizer("cabb").encode("abc") == [1, 2, 3]
    assert CharTokenizer("cab").size == 4


@pytest.mark.parametrize("tokenizer", [BPE, CHARS])
def test_tokenizers_come_back_from_disk(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    again = load_tokenizer(tmp_path / "tokenizer.json")
    assert (again.kind, again.size) == (tokenizer.kind, tokenizer.size)
    assert again.encode(CORPUS[0]) == tokenizer.encode(CORPUS[0])
    assert [again.piece(i) for i in range(again.size)] == [tokenizer.piece(i) for i in range(tokenizer.size)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a tokenizer"),
        ("[]", "is not a tokenizer"),
        ("{}", "is not a tokenizer"),
        (json.dumps({"format": 2, "kind": "chars"}), "format 2 is not known; this version reads 1"),
        (json.dumps({"format": 1, "kind": "words"}), "kind 'words' is not known; allowed are 'chars', 'bpe'"),
        (json.dumps({"format": 1, "kind": "chars"}), "is not a tokenizer"),
        (json.dumps({"format": 1, "kind": "bpe", "definition": {"model": 3}}), "is not a tokenizer"),
    ],
)
def test_a_damaged_tokenizer_is_refused_by_name(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(BundleError, match=message) as caught:
        load_tokenizer(tmp_path / "tokenizer.json")
    assert "tokenizer.json" in str(caught.value)


def test_an_absent_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"tokenizer.json cannot be read"):
        load_tokenizer(tmp_path / "tokenizer.json")
