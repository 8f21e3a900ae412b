"""How far a generated collection is from its source. Every figure is between 0 and 1 unless said."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from inkwell.novelty import NoveltyIndex, memorisation
from training.report.lexicon import Lexicon

_SELF_BLEU_SAMPLE = 200


@dataclass(frozen=True)
class Distances:
    """`js_*`: Jensen–Shannon divergence in bits. `length_*`: earth mover's distance of sentence lengths, in
    characters and words. `distinct_n`: different n-grams over all n-grams. `self_bleu`: how much generated
    sentences resemble each other. `repeated_4grams`: share of 4-grams that their own text had before. Figures
    that depend on length are taken from equally many words of both sides."""

    words_compared: int
    js_words: float
    js_bigrams: float
    js_characters: float
    length_characters: float
    length_words: float
    type_token_source: float
    type_token_generated: float
    distinct_1: float
    distinct_2: float
    distinct_3: float
    distinct_1_source: float
    distinct_2_source: float
    distinct_3_source: float
    self_bleu: float
    self_bleu_source: float
    repeated_4grams: float
    repeated_4grams_source: float
    exact_copies: float
    mean_longest_copy: float
    max_longest_copy: float
    copied_share: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def compare(source: Lexicon, generated: Lexicon) -> Distances:
    """All distances. The source is the text that the generated one could have been copied from."""
    size = min(len(source.words), len(generated.words))
    left, right = source.limited(size), generated.limited(size)
    each = len(generated.words) // max(1, len(generated.texts))
    copies = memorisation(
        generated.texts, NoveltyIndex.build(text.replace("\0", "") for text in source.texts)
    )
    return Distances(
        words_compared=size,
        js_words=jensen_shannon(Counter(left.words), Counter(right.words)),
        js_bigrams=jensen_shannon(left.ngrams(2), right.ngrams(2)),
        js_characters=jensen_shannon(Counter("".join(left.texts)), Counter("".join(right.texts))),
        length_characters=earth_mover(source.characters_per_sentence, generated.characters_per_sentence),
        length_words=earth_mover(source.words_per_sentence, generated.words_per_sentence),
        type_token_source=left.type_token_ratio,
        type_token_generated=right.type_token_ratio,
        distinct_1=distinct(right, 1),
        distinct_2=distinct(right, 2),
        distinct_3=distinct(right, 3),
        distinct_1_source=distinct(left, 1),
        distinct_2_source=distinct(left, 2),
        distinct_3_source=distinct(left, 3),
        self_bleu=self_bleu(right.words_by_sentence),
        self_bleu_source=self_bleu(left.words_by_sentence),
        repeated_4grams=repeated(generated, 4, each),
        repeated_4grams_source=repeated(source, 4, each),
        exact_copies=copies["exact_copies"],
        mean_longest_copy=copies["mean_longest"],
        max_longest_copy=copies["max_longest"],
        copied_share=copies["mean_ratio"],
    )


def jensen_shannon(left: Mapping[Any, int], right: Mapping[Any, int]) -> float:
    """Divergence of two count tables in bits: 0 for equal shares, 1 for nothing in common (Lin 1991)."""
    a, b = sum(left.values()), sum(right.values())
    if not a or not b:
        return 0.0 if a == b else 1.0
    total = 0.0
    for key in left.keys() | right.keys():
        p, q = left.get(key, 0) / a, right.get(key, 0) / b
        middle = (p + q) / 2
        total += 0.5 * ((p * math.log2(p / middle) if p else 0.0) + (q * math.log2(q / middle) if q else 0.0))
    return min(1.0, max(0.0, total))


def earth_mover(left: Sequence[int], right: Sequence[int]) -> float:
    """First Wasserstein distance of two samples, in their own unit: the area between their distributions."""
    if not left or not right:
        return 0.0
    a, b = Counter(left), Counter(right)
    places = sorted(a.keys() | b.keys())
    distance = below_left = below_right = 0.0
    for place, following in pairwise(places):
        below_left += a[place] / len(left)
        below_right += b[place] / len(right)
        distance += abs(below_left - below_right) * (following - place)
    return distance


def distinct(lexicon: Lexicon, size: int) -> float:
    """Different n-grams over all n-grams (Li et al. 2016)."""
    counts = lexicon.ngrams(size)
    total = sum(counts.values())
    return len(counts) / total if total else 0.0


def repeated(lexicon: Lexicon, size: int, words: int) -> float:
    """Share of n-grams that stood earlier in the same text, or in the same `words` words of a longer one: a long
    text repeats itself more, so both sides have to be looked at in pieces of equal length."""
    again = total = 0
    for piece in lexicon.pieces(max(1, words)):
        counts = Counter(gram for sentence in piece for gram in _ngrams(sentence, size))
        total += sum(counts.values())
        again += sum(count - 1 for count in counts.values())
    return again / total if total else 0.0


def self_bleu(sentences: Sequence[Sequence[str]], order: int = 4, seed: int = 0) -> float:
    """Mean BLEU of sentences against all others of a sample (Zhu et al. 2018): 1 when all are alike.

    Precisions of 1- to `order`-grams with one added to both counts from bigrams on (Lin and Och 2004), and no
    brevity penalty, since there is no translation to be short of.
    """
    whole = [tuple(words) for words in sentences if len(words) >= order]
    if len(whole) < 2:
        return 0.0
    sample = random.Random(seed).sample(whole, min(len(whole), _SELF_BLEU_SAMPLE))
    tables = [[Counter(_ngrams(words, n)) for n in range(1, order + 1)] for words in sample]
    # For each n-gram the two largest counts among sentences: clipping must leave the sentence itself out.
    best: list[dict[tuple[str, ...], tuple[int, int, int]]] = [{} for _ in range(order)]
    for index, table in enumerate(tables):
        for n, counts in enumerate(table):
            for gram, count in counts.items():
                first, owner, second = best[n].get(gram, (0, -1, 0))
                if count > first:
                    best[n][gram] = (count, index, first)
                elif count > second:
                    best[n][gram] = (first, owner, count)
    total = 0.0
    for index, table in enumerate(tables):
        logs = 0.0
        for n, counts in enumerate(table):
            found = 0
            for gram, count in counts.items():
                first, owner, second = best[n][gram]
                found += min(count, second if owner == index else first)
            extra = 1 if n else 0
            precision = (found + extra) / (sum(counts.values()) + extra)
            logs += math.log(precision) if precision else -math.inf
        total += math.exp(logs / order)
    return total / len(tables)


def _ngrams(words: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
