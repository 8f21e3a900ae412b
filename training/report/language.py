"""Names and parts of speech by spaCy, where it and its English model are installed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MODEL = "en_core_web_sm"
HOW_TO = f"pip install spacy && python -m spacy download {MODEL}"
_MOST_SENTENCES = 2000

Counts = list[tuple[str, int]]


@dataclass(frozen=True)
class Language:
    """The most frequent labels, and the most frequent words of the three first labels."""

    entities: Counts
    entity_words: dict[str, Counts]
    tags: Counts
    tag_words: dict[str, Counts]
    sentences: int


def load() -> Any | str:
    """spaCy's pipeline, or a sentence about what is missing and how to get it."""
    try:
        import spacy
    except ImportError:
        return f"Names and parts of speech need spaCy and its English model: {HOW_TO}"
    try:
        return spacy.load(MODEL, exclude=["parser", "lemmatizer"])
    except OSError:
        return f"Names and parts of speech need spaCy's English model {MODEL}: {HOW_TO}"


def meaning(label: str) -> str:
    """What a label of spaCy's stands for ("GPE": "Countries, cities, states"); "" where spaCy does not say."""
    try:
        from spacy.glossary import GLOSSARY
    except ImportError:
        return ""
    return str(GLOSSARY.get(label, ""))


def analyse(sentences: Sequence[str], pipeline: Any, count: int = 10) -> Language:
    """Entities and fine part-of-speech tags of up to 2,000 sentences, evenly taken."""
    step = max(1, len(sentences) // _MOST_SENTENCES)
    chosen = list(sentences[::step])[:_MOST_SENTENCES]
    entities: dict[str, Counter[str]] = {}
    tags: dict[str, Counter[str]] = {}
    for document in pipeline.pipe(chosen, batch_size=64):
        for entity in document.ents:
            entities.setdefault(entity.label_, Counter())[entity.text] += 1
        for token in document:
            if token.is_alpha:
                tags.setdefault(token.tag_, Counter())[token.text.casefold()] += 1
    return Language(*_top(entities, count), *_top(tags, count), sentences=len(chosen))


def _top(found: dict[str, Counter[str]], count: int) -> tuple[Counts, dict[str, Counts]]:
    totals = Counter({label: sum(words.values()) for label, words in found.items()})
    labels = totals.most_common(count)
    return labels, {label: found[label].most_common(count) for label, _ in labels[:3]}
