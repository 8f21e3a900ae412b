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
Lists = tuple[str, list[tuple[str, list[plots.Row]]]]  # heading, and for each side its name and lines
_TOP = 10
# heading: name, key of the generated side or of both together, key of the source, meaning
_FIGURES: dict[str, tuple[tuple[str, str, str | None, str], ...]] = {
    "Words": (
        ("word use", "js_words", None, "Jensen–Shannon divergence, bits: 0 equal, 1 nothing in common"),
        ("pairs", "js_bigrams", None, "the same for pairs of words"),
        ("characters", "js_characters", None, "the same for characters"),
        ("words compared", "words_compared", None, "of each side, in the figures that depend on length"),
    ),
    "Lengths of sentences": (
        ("characters", "length_characters", None, "earth mover's distance: how far lengths have to be moved"),
        ("words", "length_words", None, "the same in words"),
    ),
    "Variety": (
        ("type to token", "type_token_generated", "type_token_source", "different words over all words"),
        ("distinct 1", "distinct_1", "distinct_1_source", "the same, counted within sentences"),
        ("distinct 2", "distinct_2", "distinct_2_source", "different pairs over all pairs"),
        ("distinct 3", "distinct_3", "distinct_3_source", "different triples over all triples"),
    ),
    "Repetition": (
        ("self-BLEU", "self_bleu", "self_bleu_source", "likeness of sentences among themselves: 1 all alike"),
        (
            *("repeated 4-grams", "repeated_4grams", "repeated_4grams_source"),
            "share of 4-grams that their own text had before",
        ),
    ),
    "Copying": (
        ("whole texts", "exact_copies", None, "share of generated texts that are whole source texts"),
        ("copied", "copied_share", None, "share of characters in passages of 24 or more from the source"),
        ("longest, mean", "mean_longest_copy", None, "longest passage from the source, characters"),
        ("longest", "max_longest_copy", None, "the same, largest of all texts"),
    ),
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
    what, _, how = report.get("missing", "").partition(": ")
    return environment.get_template("report.html.j2").render(
        title=f"Lexical report: {report['name']}",
        subtitle=report.get("how", "The corpus as it is."),
        sides=[{"name": name} for name in names],
        tiles=_tiles(report),
        glance=_glance(sides),
        distances=_distances(report.get("distances", {})),
        characters=plots.histogram(lengths["source"][0], right and right[0], "characters per sentence"),
        words=plots.histogram(lengths["source"][1], right and right[1], "words per sentence"),
        words_lists=_words(names, sides),
        language_lists=_language(names, sides),
        notice={"what": f"{what}. The rest of this page does without.", "how": how} if what else None,
        samples=report.get("samples", []),
    )


def _tiles(report: Report) -> list[dict[str, str]]:
    """The few figures that say most."""
    found = report.get("distances")
    if not found:
        return []
    tiles = [
        (
            "word use",
            f"{found['js_words']:.2f} bits",
            "apart from the source: 0 is the same, 1 nothing in common",
        ),
        (
            "different triples",
            f"{found['distinct_3']:.0%}",
            f"of all triples of words; {found['distinct_3_source']:.0%} in the source",
        ),
        (
            "copied",
            f"{found['copied_share']:.1%}",
            f"of the characters, in passages of 24 or more; the longest has {found['max_longest_copy']:,.0f}",
        ),
    ]
    if "seconds_per_sentence" in report:
        each = report["seconds_per_sentence"] * 1000
        tiles.append(("time per sentence", f"{each:,.1f} ms", "SoulsGen took 1,800 ms on a CPU"))
    return [{"what": what, "value": value, "says": says} for what, value, says in tiles]


def _distances(found: dict[str, float]) -> list[dict[str, Any]]:
    def shown(key: str | None) -> str:
        if key is None:
            return ""
        value = found[key]
        return f"{value:,.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else f"{value:,}"

    return [
        {
            "heading": heading,
            "rows": [(name, shown(made), shown(source), meaning) for name, made, source, meaning in figures],
        }
        for heading, figures in _FIGURES.items()
        if found
    ]


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


def _words(names: Sequence[str], sides: Sequence[Report]) -> list[Lists]:
    wanted = [
        ("Pairs of words", "bigrams"),
        ("Triples of words", "trigrams"),
        ("Words that are no stop words", "other_words"),
        ("Stop words", "stop_words"),
    ]
    return [(heading, _pair(names, [side[key] for side in sides])) for heading, key in wanted]


def _language(names: Sequence[str], sides: Sequence[Report]) -> list[Lists]:
    if not all("language" in side for side in sides):
        return []
    spoken = [side["language"] for side in sides]
    found = [("Kinds of names", _pair(names, [side["entities"] for side in spoken]))]
    found.append(("Parts of speech", _pair(names, [side["tags"] for side in spoken])))
    for kind, heading in (("entity_words", "Names"), ("tag_words", "Words")):
        for label in spoken[0][kind]:
            meaning = language.meaning(label)
            lists = _pair(names, [side[kind].get(label, []) for side in spoken])
            found.append((f"{heading} tagged {label}{f' ({meaning})' if meaning else ''}", lists))
    return found


def _pair(
    names: Sequence[str], counts: Sequence[Sequence[tuple[str, int]]]
) -> list[tuple[str, list[plots.Row]]]:
    others = list(reversed(counts)) if len(counts) > 1 else [()]
    return [(name, plots.rows(mine, other)) for name, mine, other in zip(names, counts, others, strict=True)]


__all__ = ["Distances", "make_report", "render"]
