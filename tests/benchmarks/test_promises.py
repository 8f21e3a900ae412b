"""The judge of `inkwell bench promises` can find fault: what breaks a promise is seen."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from promises import Corpus, keeps


@pytest.mark.parametrize(
    ("shape", "kept", "broken"),
    [
        ({"regex": "[A-Z][a-z]+"}, "Maelo", "maelo"),
        ({"regex": "(?i)a.*"}, "Aldric", "Borin"),
        ({"starts_with": "Ar"}, "Arin", "arin"),
        ({"ends_with": "th"}, "Galdeth", "Galdet"),
        ({"contains": "lo"}, "Elora", "Erola"),
        ({"allowed_chars": "abc"}, "cab", "cabs"),
        ({"min_chars": 3, "max_chars": 4}, "abc", "ab"),
        ({"min_chars": 3, "max_chars": 4}, "abcd", "abcde"),
        ({"stop": ["."], "min_chars": 1}, "no end", "an end."),
    ],
)
def test_a_text_that_breaks_its_shape_is_found(shape, kept, broken):
    assert keeps(kept, shape)
    assert not keeps(broken, shape)


def test_a_training_document_is_found_in_any_case_and_a_run_at_its_length():
    corpus = Corpus(("Maelowyn", "the lantern was lit early"))
    assert corpus.has(" maelowyn")
    assert not corpus.has("Maelowy")
    assert corpus.runs("… the lantern was …", 15), "sixteen characters with the last space"
    assert not corpus.runs("… the lantern was …", 16)
    assert not corpus.runs("lit early Maelowyn", 10), "no run goes on in another document"
