from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.sentences import ends_sentence, split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("The bell rang. No one came.", ["The bell rang.", "No one came."]),
        ("Dr. Vane met Mr. J. R. Reed. They left.", ["Dr. Vane met Mr. J. R. Reed.", "They left."]),
        (
            "St. Orlan fell at No. 5. The answer was no. He wept.",
            ["St. Orlan fell at No. 5.", "The answer was no.", "He wept."],
        ),
        ("It weighs 3.5 lb. and is 10 ft. long.", ["It weighs 3.5 lb. and is 10 ft. long."]),
        ("It weighs 5 lb. The haft is ash.", ["It weighs 5 lb.", "The haft is ash."]),
        ("Axes, e.g. the long ones, etc. were kept.", ["Axes, e.g. the long ones, etc. were kept."]),
        ("So did he and I. Then we slept.", ["So did he and I.", "Then we slept."]),
        (
            "Well... perhaps. Or never… who knows? Not I…",
            ["Well... perhaps.", "Or never… who knows?", "Not I…"],
        ),
        ("He sank... The lamp went out.", ["He sank...", "The lamp went out."]),
        (
            '"Halt!" he cried. "Who goes?" Nobody spoke.',
            ['"Halt!" he cried.', '"Who goes?"', "Nobody spoke."],
        ),
        ("“Stop.” (He did.) ‘Why?’ she asked.", ["“Stop.”", "(He did.)", "‘Why?’ she asked."]),
        ("What?! Yes!! Truly.", ["What?!", "Yes!!", "Truly."]),
        ("A wrapped\nline goes on. Then\nends.", ["A wrapped line goes on.", "Then ends."]),
        ("A heading\n\nThe text under it.", ["A heading", "The text under it."]),
        ("暗い。火だ！行け。", ["暗い。", "火だ！", "行け。"]),
        ("no end", ["no end"]),
        ("...", ["..."]),
        ("", []),
        (" \n\n ", []),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


@given(st.text(alphabet="aB .!?…\"'()\n1", max_size=80))
def test_splitting_loses_no_character_but_white_space(text: str) -> None:
    sentences = split_sentences(text)
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(sentence == " ".join(sentence.split()) and sentence for sentence in sentences)


@pytest.mark.parametrize(
    ("text", "ends"), [("Yes.", True), ('"Yes!"', True), ("so…)", True), ("Yes", False), ("a,", False)]
)
def test_whole_sentences_are_told_from_fragments(text: str, ends: bool) -> None:
    assert ends_sentence(text) is ends
