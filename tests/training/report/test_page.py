"""The page holds everything it shows, and says what it could not find out."""

from __future__ import annotations

import builtins
import html
import json
import re
from html.parser import HTMLParser

import pytest
import spacy

from training.report import language, page
from training.report.page import make_report, render

SOURCE = [
    "Captain Ahab sailed from Nantucket at dawn. The sea was dark and the sailors were silent.",
    "In London the lamps were lit. Captain Ahab wrote a letter about the sea.",
]
GENERATED = [
    "The sea was dark in London.",
    "A letter <b>came</b> & the lamps went out.",
    "$5 was paid, and $6 lost.",
]


@pytest.fixture(autouse=True)
def without_model(monkeypatch):
    """What machines have installed must not decide what is tested here."""
    monkeypatch.setattr(language, "MODEL", "en_that_nobody_installed")


def stand_in():
    """A real spaCy pipeline that knows two places, one person and two tags."""
    pipeline = spacy.blank("en")
    names = pipeline.add_pipe("entity_ruler")
    names.add_patterns(
        [
            {"label": "GPE", "pattern": "London"},
            {"label": "GPE", "pattern": "Nantucket"},
            {"label": "PERSON", "pattern": "Captain Ahab"},
        ]
    )
    tags = pipeline.add_pipe("attribute_ruler")
    for word, tag in (("sea", "NN"), ("letter", "NN"), ("dark", "JJ")):
        tags.add([[{"LOWER": word}]], {"TAG": tag})
    return pipeline


class Outside(HTMLParser):
    """Collects whatever would make a browser fetch something."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            local = (value or "").startswith("#")
            if name in ("src", "href", "xlink:href", "srcset", "data", "action") and not local:
                self.found.append((tag, name, value))
        if tag in ("script", "link", "iframe", "object", "embed", "base"):
            self.found.append((tag, "", ""))


def test_the_page_fetches_nothing():
    text = render(make_report(SOURCE, GENERATED))
    outside = Outside()
    outside.feed(text)
    assert outside.found == []
    assert "@import" not in text
    assert not re.search(r"url\(\s*['\"]?(?!#)", text)
    # what is left are names of XML dialects
    assert set(re.findall(r'(\S+)="https?://', text)) <= {"xmlns", "xmlns:xlink"}


def test_the_same_texts_give_the_same_page():
    assert render(make_report(SOURCE, GENERATED)) == render(make_report(SOURCE, GENERATED))


def test_texts_are_shown_as_they_are_and_not_as_markup():
    text = render(make_report(SOURCE, GENERATED))
    assert "A letter &lt;b&gt;came&lt;/b&gt; &amp; the lamps went out." in text
    assert "<b>came" not in text


def test_a_missing_language_model_is_named_with_the_way_to_get_it_and_the_rest_works():
    report = make_report(SOURCE, GENERATED)
    assert "python -m spacy download" in report["missing"]
    assert "language" not in report["source"]
    assert report["source"]["bigrams"][0] == ("captain ahab", 2)
    text = render(report)
    assert "python -m spacy download" in text
    assert "Pairs of words" in text


def test_missing_spacy_is_named_with_the_way_to_get_it(monkeypatch):
    real = builtins.__import__

    def without_spacy(name, *rest, **more):
        if name == "spacy":
            raise ImportError("No module named 'spacy'")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_spacy)
    assert "pip install spacy" in language.load()


def test_names_and_tags_are_counted_where_a_pipeline_is_there(monkeypatch):
    monkeypatch.setattr(language, "load", stand_in)
    report = make_report(SOURCE, GENERATED)
    found = report["source"]["language"]
    assert found["entities"] == [("PERSON", 2), ("GPE", 2)]
    assert sorted(found["entity_words"]["GPE"]) == [("London", 1), ("Nantucket", 1)]
    assert ("NN", 3) in found["tags"]
    assert found["tag_words"]["NN"] == [("sea", 2), ("letter", 1)]
    assert report["generated"]["language"]["entities"] == [("GPE", 1)]
    text = render(report)
    assert "Names tagged PERSON" in text
    assert "Words tagged NN" in text
    assert "missing" not in report


def test_long_collections_are_sampled_evenly(monkeypatch):
    monkeypatch.setattr(language, "_MOST_SENTENCES", 10)
    found = language.analyse([f"sea {n}" for n in range(95)], stand_in())
    assert found.sentences == 10
    assert dict(found.tags)["NN"] == 10


def test_one_side_alone_has_no_distances():
    report = make_report(SOURCE)
    assert "distances" not in report
    text = render(report)
    assert "How far apart" not in text
    assert "generated" not in re.sub(r"<style>.*?</style>", "", text, flags=re.S)


def test_every_distance_stands_on_the_page_with_its_meaning():
    report = make_report(SOURCE, GENERATED)
    figures = [figure for group in page._FIGURES.values() for figure in group]
    shown = [key for _, made, source, _ in figures for key in (made, source) if key is not None]
    assert sorted(shown) == sorted(report["distances"])
    text = render(report)
    for name, _, _, meaning in figures:
        assert f"<td>{name}</td>" in text
        assert html.escape(meaning, quote=False).replace("'", "&#39;") in text


def test_the_page_follows_light_and_dark_paper():
    text = render(make_report(SOURCE, GENERATED))
    assert "prefers-color-scheme: dark" in text
    pictures = re.findall(r"<svg.*?</svg>", text, flags=re.S)
    assert len(pictures) == 2
    for picture in pictures:
        inks = set(re.findall(r"(?:fill|stroke): ?([^;\"]+)", picture))
        assert inks <= {"none", "var(--ink)", "var(--source)", "var(--made)", "var(--line)"}, inks
        assert "aria-label" in picture


def test_the_time_per_sentence_stands_beside_that_of_soulsgen():
    text = render(make_report(SOURCE, GENERATED, extra={"seconds_per_sentence": 0.0123}))
    assert "12.3 ms" in text
    assert "SoulsGen took 1,800 ms" in text
    assert "SoulsGen" not in render(make_report(SOURCE, GENERATED))


def test_a_report_is_plain_data():
    report = make_report(SOURCE, GENERATED, extra={"how": "by hand"})
    again = json.loads(json.dumps(report))
    assert again["how"] == "by hand"
    assert again["source"]["sentences"] == 4


def test_texts_without_a_single_word_still_make_a_page():
    text = render(make_report(["!!!", "…"], ["?"]))
    assert "At a glance" in text
