"""The report as data and as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from training.report import language, plots
from training.report.distances import Distances, compare
from training.report.lexicon import Lexicon, Spread

Report = dict[str, Any]
_TOP = 10
_MEANINGS = {
    "js_words": "Jensen–Shannon divergence of word frequencies, bits: 0 equal, 1 nothing in common",
    "js_bigrams": "the same for pairs of words",
    "js_characters": "the same for characters",
    "length_characters": "earth mover's distance of sentence lengths, characters",
    "length_words": "the same in words",
    "type_token_source": "different words over all words, source, over the words compared",
    "type_token_generated": "the same, generated",
    "distinct_1": "different words over all words",
    "distinct_2": "different pairs over all pairs, generated",
    "distinct_3": "different triples over all triples, generated",
    "distinct_1_source": "the same for the source",
    "distinct_2_source": "the same for the source",
    "distinct_3_source": "the same for the source",
    "self_bleu": "likeness of generated sentences among themselves: 1 all alike",
    "self_bleu_source": "the same for the source",
    "repeated_4grams": "share of 4-grams that their own text had before, generated",
    "repeated_4grams_source": "the same for the source",
    "exact_copies": "share of generated texts that are whole source texts",
    "mean_longest_copy": "longest passage found in the source, characters, mean",
    "max_longest_copy": "the same, largest",
    "copied_share": "share of characters in passages of 24 or more that stand in the source",
    "words_compared": "words of each side in the figures that depend on length",
}


def make_report(
    source: Sequence[str],
    generated: Sequence[str] | None = None,
    name: str = "source",
    extra: Report | None = None,
) -> Report:
    """Everything the page shows, as plain data. `extra` is added at the top (how the sample was made)."""
    left = Lexicon(source)
    right = Lexicon(generated) if generated is not None else None
    pipeline = language.load()
    report: Report = {"name": name, **(extra or {}), "source": _side(left, pipeline)}
    if right is not None:
        report["generated"] = _side(right, pipeline)
        report["distances"] = compare(left, right).as_dict()
        report["samples"] = list(right.texts[:8])
    if isinstance(pipeline, str):
        report["missing"] = pipeline
    report["lengths"] = {
        "source": [list(left.characters_per_sentence), list(left.words_per_sentence)],
        "generated": None
        if right is None
        else [list(right.characters_per_sentence), list(right.words_per_sentence)],
    }
    return report


def _side(lexicon: Lexicon, pipeline: Any) -> Report:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    stops = frozenset(ENGLISH_STOP_WORDS)
    side: Report = {
        "texts": len(lexicon.texts),
        "sentences": len(lexicon.sentences),
        "words": len(lexicon.words),
        "unique_words": len(set(lexicon.words)),
        "characters_per_sentence": asdict(Spread.of(lexicon.characters_per_sentence)),
        "words_per_sentence": asdict(Spread.of(lexicon.words_per_sentence)),
        "bigrams": _named(lexicon.ngrams(2).most_common(_TOP)),
        "trigrams": _named(lexicon.ngrams(3).most_common(_TOP)),
        "stop_words": lexicon.common(stops, True, _TOP),
        "other_words": lexicon.common(stops, False, _TOP),
    }
    if not isinstance(pipeline, str):
        side["language"] = asdict(language.analyse(lexicon.sentences, pipeline, _TOP))
    return side


def _named(counts: Sequence[tuple[tuple[str, ...], int]]) -> list[tuple[str, int]]:
    return [(" ".join(gram), count) for gram, count in counts]


def render(report: Report) -> str:
    """One HTML page with nothing outside it."""
    from jinja2 import Environment, FileSystemLoader, select_autoescape

    names = ["source", *(["generated"] if "generated" in report else [])]
    sides = [report[name] for name in names]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(default=True),
    )
    lengths = report["lengths"]
    right = lengths["generated"]
    distances = [
        (name, f"{value:,.3f}".rstrip("0").rstrip("."), _MEANINGS[name])
        for name, value in report.get("distances", {}).items()
    ]
    return environment.get_template("report.html.j2").render(
        title=f"Lexical report: {report['name']}",
        subtitle=report.get("how", "The corpus as it is."),
        sides=[{"name": name} for name in names],
        glance=_glance(sides),
        distances=distances,
        characters=plots.histogram(lengths["source"][0], right and right[0], "characters per sentence"),
        words=plots.histogram(lengths["source"][1], right and right[1], "words per sentence"),
        pictures=_pictures(sides),
        notice=report.get("missing"),
        samples=report.get("samples", []),
    )


def _glance(sides: Sequence[Report]) -> list[list[str]]:
    rows = [
        [heading, *(f"{side[key]:,}" for side in sides)]
        for heading, key in (
            ("texts", "texts"),
            ("sentences", "sentences"),
            ("words", "words"),
            ("unique words", "unique_words"),
        )
    ]
    for heading, key in (
        ("characters per sentence", "characters_per_sentence"),
        ("words per sentence", "words_per_sentence"),
    ):
        rows.append([heading, *(f"{s[key]['mean']:.1f} ({s[key]['least']}–{s[key]['most']})" for s in sides)])
    return rows


def _pictures(sides: Sequence[Report]) -> list[tuple[str, str]]:
    wanted = [
        ("Pairs of words", "bigrams"),
        ("Triples of words", "trigrams"),
        ("Stop words", "stop_words"),
        ("Other words", "other_words"),
    ]
    found = [(heading, _pair([side[key] for side in sides])) for heading, key in wanted]
    if all("language" in side for side in sides):
        spoken = [side["language"] for side in sides]
        found.append(("Kinds of names", _pair([side["entities"] for side in spoken])))
        found.append(("Parts of speech", _pair([side["tags"] for side in spoken])))
        for kind, heading in (("entity_words", "Names"), ("tag_words", "Words")):
            for label in spoken[0][kind]:
                found.append(
                    (f"{heading} tagged {label}", _pair([side[kind].get(label, []) for side in spoken]))
                )
    return found


def _pair(sides: Sequence[Sequence[tuple[str, int]]]) -> str:
    return plots.bars(sides[0], sides[1] if len(sides) > 1 else None)


__all__ = ["Distances", "make_report", "render"]
