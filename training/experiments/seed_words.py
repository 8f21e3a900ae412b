"""What a text should begin with: nothing, an unfamiliar word, one that begins sentences, or a familiar one.

Each way is judged by how plausible its texts are (to the model, and to a judge that has read only held-out text)
and by how much they copy.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable

from inkwell.bundle import Bundle
from inkwell.novelty import NoveltyIndex, memorisation
from training.data.sentences import split_sentences
from training.errors import UserError
from training.experiments.runs import Row
from training.experiments.scorer import NgramScorer
from training.figures.samples import Sample, sample
from training.prepare import Prepared, prepare
from training.recipe import recipe_from

_WORD = re.compile(r"[^\W\d_]{2,}")


def seed_words(bundle: Bundle, samples: int = 64, tokens: int = 60, seed: int = 0) -> list[Row]:
    """One row per way to begin, and one each for held-out and training text as what to compare with.

    `nats_per_token` is the model's own surprise, `judge_bits` that of the judge per character of prompt and text;
    `longest` the mean longest passage in characters that stands in the training text, `copied` the share of
    characters in passages of 24 and more, `exact` the share of texts that are whole training documents.
    Raises UserError for a model without seed words or held-out text.
    """
    if not bundle.words.words:
        raise UserError(f"model {bundle.config.name!r} has no seed words; take one of running text")
    values = bundle.config.training.get("recipe")
    if not isinstance(values, dict):
        raise UserError(f"model {bundle.config.name!r} does not say what it was trained on")
    prepared = prepare(
        recipe_from(values, "config.json, training.recipe"), bundle.tokenizer, bundle.categories
    )
    if prepared.validation is None:
        raise UserError(f"the corpus of {bundle.config.name!r} has no held-out part to judge by")
    training = [document.text for document in prepared.splits.train.documents]
    held = [document.text for document in prepared.validation.documents]
    index = bundle.load_novelty() or NoveltyIndex.build(training)
    judge = NgramScorer(held)
    rows = []
    for name, prompt in _ways(bundle, prepared).items():
        found = [
            sample(bundle, 1, seed + n, tokens, **_beginning(prompt(random.Random(seed + n))))[0]
            for n in range(samples)
        ]
        rows.append({"begins with": name, **_figures(found, index, judge)})
    length = max(24, round(sum(len(item.prompt + item.text) for item in found) / samples))
    rows.append(
        {"begins with": "(held-out text)", **_held_out(bundle, _pieces(held, length, samples), index)}
    )
    judged = judge.bits_per_character(_pieces(training, length, samples))
    rows.append({"begins with": "(training text)", "judge_bits": judged})
    return rows


def _beginning(word: str) -> dict[str, object]:
    return {"prompt": word} if word else {"seed_word": {"strategy": "none"}}


def _ways(bundle: Bundle, prepared: Prepared) -> dict[str, Callable[[random.Random], str]]:
    texts = [document.text for document in prepared.splits.train.documents]
    known = {word.casefold() for text in texts for word in _WORD.findall(text)}
    firsts = [
        match.group()
        for text in texts
        for sentence in split_sentences(text)
        if (match := _WORD.search(sentence)) and match.start() <= 1
    ]
    if not firsts:
        raise UserError("the corpus has no sentences, so no word begins one")
    return {
        "nothing": lambda _: "",
        "unfamiliar word": lambda draw: unfamiliar(bundle.words.words, known, draw),
        "first word of a sentence": lambda draw: draw.choice(firsts),
        "familiar word": lambda draw: bundle.words.pick("random", draw.randrange(1 << 30)),
    }


def unfamiliar(words: tuple[str, ...], known: set[str], draw: random.Random) -> str:
    """Letters of a familiar word in an order that no training text has."""
    for _ in range(1000):
        word = draw.choice(words)
        letters = list(word.casefold()) + list(draw.choice(words).casefold()[:2])
        draw.shuffle(letters)
        if (made := "".join(letter for letter in letters if letter.isalpha())) not in known and len(made) > 3:
            return made
    raise UserError("every shuffled word of this corpus is a word of it too")


def _figures(found: list[Sample], index: NoveltyIndex, judge: NgramScorer) -> Row:
    logprobs = [value for item in found for value in item.logprobs]
    copies = memorisation([item.text for item in found], index)
    return {
        "nats_per_token": -sum(logprobs) / len(logprobs) if logprobs else math.nan,
        "judge_bits": judge.bits_per_character([item.prompt + item.text for item in found]),
        "longest": copies["mean_longest"],
        "copied": copies["mean_ratio"],
        "exact": sum(index.contains(item.prompt + item.text) for item in found) / len(found),
        "example": (found[0].prompt + found[0].text)[:48].replace("\n", " "),
    }


def _held_out(bundle: Bundle, pieces: list[str], index: NoveltyIndex) -> Row:
    copies = memorisation(pieces, index)
    nats = bundle.metrics.get("validation", {}).get("nats_per_token", math.nan)
    return {
        "nats_per_token": nats,
        "judge_bits": math.nan,  # the judge has read it
        "longest": copies["mean_longest"],
        "copied": copies["mean_ratio"],
        "exact": copies["exact_copies"],
        "example": pieces[0][:48].replace("\n", " ") if pieces else "",
    }


def _pieces(texts: list[str], length: int, count: int) -> list[str]:
    """Evenly chosen stretches of about `length` characters."""
    cut = [
        text[at : at + length] for text in texts for at in range(0, max(1, len(text) - length + 1), length)
    ]
    return cut[:: max(1, len(cut) // count)][:count]
