"""Stop strings in pieces against `str.find` on the whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inkwell.stops import StopScanner

few = st.text(alphabet="ab\n", min_size=1, max_size=5)


def cut(pieces: list[str], stops: list[str]) -> tuple[str, str | None]:
    """Text before the first stop of the shortest run of pieces that holds one."""
    text = ""
    for piece in pieces:
        text += piece
        places = sorted((text.find(stop), stops.index(stop), stop) for stop in stops if stop in text)
        if places:
            return text[: places[0][0]], places[0][2]
    return text, None


@given(st.lists(st.text(alphabet="ab\n", max_size=4), max_size=12), st.lists(few, max_size=4))
def test_pieces_end_where_the_whole_text_would(pieces: list[str], stops: list[str]) -> None:
    scanner = StopScanner(stops)
    passed, so_far = "", ""
    for piece in pieces:
        out = scanner.push(piece)
        passed += out
        so_far += piece
        assert so_far.startswith(passed)
        if scanner.found is None:
            # held back is never more than the longest beginning of a stop string
            assert len(so_far) - len(passed) < max((len(stop) for stop in stops), default=1)
    expected, found = cut(pieces, stops)
    assert scanner.found == found
    assert passed + scanner.rest() == expected


@given(st.text(alphabet="abc", max_size=30), st.lists(few, min_size=1, max_size=3))
def test_character_by_character_no_stop_string_ever_gets_out(text: str, stops: list[str]) -> None:
    scanner = StopScanner(stops)
    out = "".join(scanner.push(character) for character in text) + scanner.rest()
    assert not any(stop in out for stop in stops)
    if not any(stop in text for stop in stops):
        assert out == text


def test_a_stop_string_is_found_across_pieces_and_nothing_follows_it() -> None:
    scanner = StopScanner(["END"])
    assert [scanner.push(piece) for piece in ("a", "E", "N", "x", "EN", "D", "more")] == [
        "a",
        "",
        "",
        "ENx",
        "",
        "",
        "",
    ]
    assert scanner.found == "END"
    assert scanner.rest() == ""


def test_what_was_held_back_comes_out_once_at_the_end() -> None:
    scanner = StopScanner(["abc"])
    assert scanner.push("xab") == "x"
    assert scanner.rest() == "ab"
    assert scanner.rest() == ""


def test_without_stop_strings_text_passes_as_it_is() -> None:
    scanner = StopScanner([])
    assert scanner.push("anything") == "anything"
    assert scanner.rest() == ""
