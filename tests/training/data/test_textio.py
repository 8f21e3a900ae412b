from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.textio import TextOptions, iter_lines, read_text, split_pieces, write_atomically
from training.errors import DataError, UserError

UTF8 = TextOptions()


def put(folder: Path, data: bytes) -> Path:
    path = folder / "file.txt"
    path.write_bytes(data)
    return path


def test_byte_order_mark_is_removed_and_line_ends_become_lf(tmp_path: Path) -> None:
    assert read_text(put(tmp_path, b"\xef\xbb\xbfone\r\ntwo\rthree\n"), UTF8) == "one\ntwo\nthree\n"


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_recognised_by_its_mark(tmp_path: Path, codec: str) -> None:
    assert read_text(put(tmp_path, ("\ufeffÆther\r\n").encode(codec)), UTF8) == "Æther\n"


def test_broken_utf_8_is_named_with_its_byte_offset(tmp_path: Path) -> None:
    path = put(tmp_path, b"a" * 70_000 + b"\xe9 clair")
    with pytest.raises(DataError, match=r"byte 70000 \(0xe9\) is not utf-8.*--encoding"):
        read_text(path, UTF8)


def test_character_cut_by_the_chunk_end_is_whole(tmp_path: Path) -> None:
    text = "a" * (65_536 - 1) + "é" + "b"
    assert read_text(put(tmp_path, text.encode()), UTF8) == text


def test_broken_bytes_after_a_chunk_end_have_the_right_offset(tmp_path: Path) -> None:
    path = put(tmp_path, b"a" * 65_535 + b"\xc3(")
    with pytest.raises(DataError, match="byte 65535 "):
        read_text(path, UTF8)


def test_cut_last_character_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="byte 3 "):
        read_text(put(tmp_path, b"abc\xe2\x82"), UTF8)


def test_replace_puts_the_replacement_character(tmp_path: Path) -> None:
    assert read_text(put(tmp_path, b"caf\xe9"), TextOptions(replace=True)) == "caf\ufffd"


def test_another_encoding_can_be_named(tmp_path: Path) -> None:
    assert read_text(put(tmp_path, b"caf\xe9"), TextOptions(encoding="latin-1")) == "café"


def test_unknown_encoding_is_a_user_error() -> None:
    with pytest.raises(UserError, match="'klingon'"):
        TextOptions(encoding="klingon")


def test_nul_is_named_with_its_byte_offset(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="NUL at byte 3"):
        read_text(put(tmp_path, b"abc\0def"), UTF8)


def test_empty_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="empty"):
        read_text(put(tmp_path, b""), UTF8)


def test_line_over_the_limit_is_refused_before_it_is_read_whole(tmp_path: Path) -> None:
    read: list[int] = []

    def pieces() -> object:
        for _ in range(1000):
            read.append(1)
            yield "x" * 1000

    with pytest.raises(DataError, match="record 1 is longer than 5000 characters"):
        list(split_pieces(pieces(), "\n", "here", 5000))  # type: ignore[arg-type]
    assert len(read) <= 6


def test_lines_have_no_ends_and_the_last_needs_none(tmp_path: Path) -> None:
    assert list(iter_lines(put(tmp_path, b"a\n\nb"), UTF8)) == ["a", "", "b"]


@given(
    st.text(alphabet="ab|", max_size=60),
    st.lists(st.integers(1, 5), max_size=30),
    st.sampled_from(["|", "||", "ab|"]),
)
def test_pieces_split_like_the_whole_text(text: str, sizes: list[int], separator: str) -> None:
    pieces, rest = [], text
    for size in sizes:
        pieces.append(rest[:size])
        rest = rest[size:]
    pieces.append(rest)
    expected = text.split(separator)
    if expected[-1] == "":
        expected.pop()
    assert list(split_pieces(pieces, separator, "here", None)) == expected


def test_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")

    def parts() -> object:
        yield "new"
        raise KeyError("stop")

    with pytest.raises(KeyError):
        write_atomically(path, parts())  # type: ignore[arg-type]
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out.txt"]
