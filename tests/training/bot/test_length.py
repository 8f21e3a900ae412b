"""Lengths as the platforms count them. The figures for X were taken from twitter-text 3.1.0."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.bot.length import graphemes, mastodon_length, utf16_length, x_length
from training.bot.links import links, target

LATIN = st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters=".:"))
PLAIN = st.text(alphabet=st.sampled_from("abcdefgh ,!?é—’日本のüß…"), max_size=60)
EMOJI = ("😷", "👍🏽", "👨‍👩‍👧‍👦", "🇩🇪", "☺️", "1️⃣", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🙋🏽", "☺", "™")


@pytest.mark.parametrize(
    ("text", "weight"),
    [
        ("This is a test.", 15),
        ("http://test.com", 23),
        ("test.com", 23),
        ("Test https://test.com test https://test.com test.com test", 86),
        ("𐀀", 2),
        ("저찀쯿쿿", 8),
        ("H🐱☺👨‍👩‍👧‍👦", 7),
        ("😷👾😡🔥💩", 10),
        ("🙋🏽👨‍🎤", 4),
        ("🇩🇪🇫🇷🏴󠁧󠁢󠁥󠁮󠁧󠁿 1️⃣", 9),
        ("🇩", 2),
        ("☺︎", 4),
        ("©", 1),
        ("™", 2),
        ("“Quoted” — dash… † ‰ €", 26),
        ("a\u0301", 1),
        ("See (https://en.wikipedia.org/wiki/Foo_(bar)).", 30),
        ("(see https://a.com/b).", 30),
        ("http://a.com/b,", 24),
        ("https://example.com/ünïcödé/путь?q=1#frag", 23),
        ("https://t.co/abcdef123?x=1,", 24),
        ("http://foo.com:8080/x", 23),
        ("HTTP://FOO.COM", 23),
        ("co.uk:8080", 28),
        ("Visit example.com/path. Or not.", 38),
        ("the end.Then he went", 20),
        ("http://test.notatld", 19),
        ("http://192.168.0.1/", 19),
        ("x@test.com", 10),
        ("#test.com", 9),
        ("test.com.", 24),
        ("日本語test.com日本", 33),
    ],
)
def test_x_counts_as_its_own_library_does(text, weight):
    assert x_length(text) == weight


@given(LATIN)
def test_plain_latin_counts_its_characters_on_x(text):
    assert x_length(text) == len(text)


@given(PLAIN, PLAIN)
def test_lengths_of_parts_add_up(first, second):
    # The space keeps what meets there from being one character or one link.
    for measure in (x_length, graphemes, mastodon_length, utf16_length):
        assert measure(f"{first} {second}") == measure(first) + 1 + measure(second)


@given(PLAIN, st.sampled_from(EMOJI))
def test_an_emoji_weighs_two_whatever_it_is_made_of(text, emoji):
    assert x_length(f"{text} {emoji}") == x_length(text) + 3


@given(PLAIN, st.text(alphabet="abcdefghij0123456789-_/", max_size=300))
def test_a_link_weighs_23_whatever_its_length(text, path):
    assert x_length(f"{text} https://example.org/x{path}x") == x_length(text) + 24


@given(st.text(max_size=80))
def test_composed_and_decomposed_texts_weigh_the_same(text):
    assert x_length(unicodedata.normalize("NFD", text)) == x_length(unicodedata.normalize("NFC", text))


@given(st.text(alphabet="ab.:/@ hftpscom-_", max_size=60))
def test_links_lie_in_order_and_apart(text):
    at = 0
    for link in links(text):
        assert at <= link.start < link.end <= len(text)
        at = link.end


def test_a_bare_link_leads_to_https():
    text = "see example.org/a and http://b.org"
    assert [target(text, link) for link in links(text)] == ["https://example.org/a", "http://b.org"]


def test_bluesky_counts_what_people_call_characters():
    assert graphemes("👨‍👩‍👧‍👦e\u0301🇩🇪") == 3


def test_mastodon_counts_links_and_distant_names_short():
    assert mastodon_length("see https://example.org/a/very/long/path/indeed now") == len("see  now") + 23
    assert mastodon_length("see https://example.org/x", 10) == len("see ") + 10
    assert mastodon_length("hello @bot@example.social!") == len("hello @bot!")
    assert mastodon_length("example.org is no link there") == len("example.org is no link there")


@given(st.text(max_size=80))
def test_discords_measure_is_never_below_the_code_points(text):
    assert len(text) <= utf16_length(text) <= 2 * len(text)
