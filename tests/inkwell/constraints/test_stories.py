"""Stories of a model that knows nothing, through the real session: random letters, and no rule is broken.

What is checked is read from the finished text by expressions of this file, not by the code that made it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any

import pytest

from inkwell.bundle import Bundle, BundleConfig
from inkwell.lexicon import TITLES, names_in, ordinary_words
from inkwell.novelty import NoveltyIndex
from inkwell.session import TextEngine
from inkwell.tokenizer import BPETokenizer, CharTokenizer
from inkwell.words import SeedWords

DOCUMENTS = (
    "once upon a time there was a fox. the fox met a bear, and a bear met the fox! one day the dog ran to town.",
    'Mia sat on a hill. "come here," said Tom. then Mia and Tom went home, for it was late and they were tired.',
    "a kite, a drum and a dragon were in the old house? no one knew why. so the boy and Max asked a girl.",
)
ORDINARY = set(re.findall(r"[a-z]+", " ".join(DOCUMENTS)))
PROMPTS = ("", "once upon a time", "Mia ran to", "the fox said: “", "a bear met the fox. ", "Ze")
NAMES = ("Zoe", "Kuno", "Mia", "Tom", "Una")
WORDS = ("dragon", "kite", "sea", "old", "quiz")
OPENINGS = ("It was late.", "once more the fox", "Uma said: ")
ENDINGS = ("The end.", "They all went home, and Tom slept.", "so it was")


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, CharTokenizer | BPETokenizer]:
    letters = "".join(map(chr, range(97, 123)))
    sample = [*DOCUMENTS * 4, f"{letters} {letters.upper()} “é” ’…-!;:\n"]
    return {"chars": CharTokenizer.fit(sample), "bpe": BPETokenizer.fit(sample, 420)}


def bundle_of(model: Any, tokenizer: Any, kind: str) -> Bundle:
    config = BundleConfig("noise", "noise", {"architecture": "noise"}, kind=kind, seed_words=False)
    bundle = Bundle(config, model, tokenizer, SeedWords((), ()))
    bundle.novelty = NoveltyIndex.build(DOCUMENTS)
    return bundle


def anything(source: random.Random) -> dict[str, Any]:
    """A job with any mixture of a story's rules."""
    pick = source.choice
    rules: dict[str, Any] = {
        "characters": source.sample(NAMES, source.randint(0, 3)),
        "required_words": source.sample(WORDS, source.randint(0, 2)),
        "opening": pick([None, None, *OPENINGS]),
        "ending": pick([None, *ENDINGS]),
        "forbid_loops": pick([None, 2, 3]),
    }
    rules["forbidden_words"] = [
        word for word in ("the", "fox", "a", "sad") if source.random() < 0.3 and word not in WORDS
    ]
    job = {name: value for name, value in rules.items() if value}
    if not job:
        job["forbid_loops"] = 2
    return {
        **job,
        "prompt": pick(PROMPTS),
        "seed_word": "none",
        "seed": source.getrandbits(50),
        "max_new_tokens": source.randint(90, 160),
        **pick([{}, {}, {"temperature": 0.5, "top_k": 7}]),
    }


def words_of(text: str) -> Iterator[tuple[str, str]]:
    """(what stands before, word) of each word, with None before the first."""
    for match in re.finditer(r"([^a-zA-Zà-öø-ÿ]*)([a-zA-Zà-öø-ÿ]+)", text):
        yield match.group(1), match.group(2)


def faults(job: dict[str, Any], prompt: str, end: dict[str, Any]) -> list[str]:
    """What is wrong with a story."""
    text, ending, opening = end["text"], job.get("ending", ""), job.get("opening", "")
    found = []
    if end["generated_tokens"] > job["max_new_tokens"]:
        found.append("too long")
    if not text.startswith(opening):
        found.append("opening")
    if ending and not re.search(r"[.!?…][\"'”’)\]]* " + re.escape(ending) + r"\Z", text):
        found.append("ending")
    told = text[: len(text) - len(ending)] if ending else text
    whole = [word for _, word in words_of(text)]
    if set(job.get("required_words", ())) - {word.lower() for word in whole}:
        found.append("required")
    if set(job.get("characters", ())) - set(whole):
        found.append("characters")
    given = len(list(words_of(prompt + opening)))
    words = list(words_of(prompt + told))
    lower = [word.lower() for _, word in words]
    names = {*job.get("characters", ()), *TITLES}
    for given_text in (prompt, opening, ending):
        names |= {word for _, word in words_of(given_text) if word[0].isupper()}
    size = job.get("forbid_loops")
    for at in range(given, len(words)):
        gap, word = words[at]
        if lower[at] in job.get("forbidden_words", ()):
            found.append(f"forbidden {word}")
        if size and at >= size - 1:
            run = lower[at - size + 1 : at + 1]
            if any(lower[start : start + size] == run for start in range(at - size + 1)):
                found.append(f"loop {run}")
        if job.get("characters"):
            begins = at == 0 or re.fullmatch(r"[ ,\-'’\t]*", gap) is None
            if word[0].isupper() and word not in names and not (begins and word.lower() in ORDINARY):
                found.append(f"name {word}")
            if any(letter.isupper() for letter in word[1:]):
                found.append(f"capitals in {word}")
    return found


def told(
    tokenizers: dict[str, CharTokenizer | BPETokenizer],
    noise_model: Any,
    which: str,
    kind: str,
    count: int,
    **more: Any,
) -> list[str]:
    """What is wrong with `count` stories that are told side by side."""
    tokenizer = tokenizers[which]
    source = random.Random(f"{which}{kind}{count}")
    engine = TextEngine(bundle_of(noise_model(tokenizer.size), tokenizer, kind), slots=32)
    jobs = []
    for number in range(count):
        sink: list[dict[str, Any]] = []
        job = {**anything(source), **more}
        if more:
            job.pop("temperature", None)
            job.pop("top_k", None)
        assert engine.submit({"id": f"j{number}", **job}, sink) is not None, sink
        jobs.append((job, sink))
        while engine.engine.queued > 32:
            engine.advance()
    while not engine.idle:
        engine.advance()
    wrong = []
    for job, sink in jobs:
        assert sink[-1]["event"] == "end", sink[-1]
        for fault in faults(job, job["prompt"], sink[-1]):
            wrong.append(f"{fault}: {job} → {sink[-1]['text']!r}")
    return wrong


@pytest.mark.parametrize("kind", ["documents", "stream"])
@pytest.mark.parametrize("which", ["chars", "bpe"])
def test_no_rule_of_a_story_is_broken(tokenizers: Any, noise_model: Any, which: str, kind: str) -> None:
    assert told(tokenizers, noise_model, which, kind, 40) == []


@pytest.mark.parametrize("which", ["chars", "bpe"])
def test_no_rule_of_a_story_is_broken_by_a_search(tokenizers: Any, noise_model: Any, which: str) -> None:
    assert told(tokenizers, noise_model, which, "documents", 8, num_beams=3) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["documents", "stream"])
@pytest.mark.parametrize("which", ["chars", "bpe"])
def test_no_rule_of_a_thousand_stories_is_broken(
    tokenizers: Any, noise_model: Any, which: str, kind: str
) -> None:
    assert told(tokenizers, noise_model, which, kind, 1000) == []


def test_the_checker_sees_what_is_wrong() -> None:
    job = {
        "characters": ["Mia"],
        "required_words": ["kite"],
        "forbidden_words": ["sad"],
        "forbid_loops": 2,
        "ending": "The end.",
        "opening": "It was",
        "max_new_tokens": 5,
    }
    end = {"text": "It is sad that Bob, and Bob, and Bob xX. The ende", "generated_tokens": 6}
    found = faults(job, "", end)
    kinds = {fault.split()[0] for fault in found}
    wanted = {"too", "opening", "ending", "required", "characters", "forbidden", "loop", "name", "capitals"}
    assert kinds == wanted
    fine = {"text": "It was a kite. Mia sat. The end.", "generated_tokens": 5}
    assert faults(job, "", fine) == []


# ---- what is known of words


def test_ordinary_words_are_those_that_are_written_small() -> None:
    texts = [
        "Suddenly a rose grew. Rose smiled at Will, and Will smiled. I will, said Rose.",
        "Suddenly it rained. Amir sat, and a rose was wet. The rose and the rose.",
        "Suddenly Amir ran. He will run, he will.",
    ]
    ordinary = ordinary_words(texts)
    assert {"rose", "will", "suddenly", "smiled"} <= ordinary
    assert "amir" not in ordinary
    assert names_in("Amir met Zed. Suddenly a rose. Rose and I saw Mom", ordinary) == ["Amir", "Zed"]


# ---- one thing at a time


@pytest.fixture
def engine(bpe_stories: Bundle) -> TextEngine:
    return TextEngine(bpe_stories, slots=8)


@pytest.fixture(scope="module")
def bpe_stories(tokenizers: Any, noise_model: Any) -> Bundle:
    return bundle_of(noise_model(tokenizers["bpe"].size, 3), tokenizers["bpe"], "documents")


def last(engine: TextEngine, **job: Any) -> dict[str, Any]:
    values = {"prompt": "", "seed_word": "none", "seed": 1, "max_new_tokens": 80, **job}
    return list(engine.generate(values))[-1]


def test_an_answer_tells_how_often_each_character_is_mentioned(engine: TextEngine) -> None:
    end = last(
        engine, prompt="Mia sat. ", characters=["Mia", "Kuno"]
    )  # and are mentioned by the story itself
    assert set(end["characters"]) == {"Mia", "Kuno"}
    for name, count in end["characters"].items():
        assert count == [word for _, word in words_of(end["text"])].count(name) >= 1


def test_nothing_follows_an_ending(engine: TextEngine) -> None:
    for seed in range(5):
        end = last(engine, ending="The end.", seed=seed)
        assert end["finish_reason"] in ("stop_sequence", "length")
        assert end["text"].endswith(" The end.")


def test_a_story_without_room_to_spare_is_finished_all_the_same(engine: TextEngine) -> None:
    rules = {"characters": ["Zoe", "Kuno"], "required_words": ["quiz"], "ending": "The end."}
    refused = last(engine, max_new_tokens=1, **rules)
    least = int(re.search(r"at least (\d+) tokens", refused["error"]).group(1))
    for seed in range(10):
        end = last(engine, max_new_tokens=least, seed=seed, **rules)
        assert faults({**rules, "max_new_tokens": least}, "", end) == []
    assert last(engine, max_new_tokens=least - 1, **rules)["field"] == "max_new_tokens"


def test_a_story_taken_up_at_any_point_goes_on_as_it_would_have(bpe_bundle: Any) -> None:
    from inkwell.bundle import load_bundle

    bundle = load_bundle(bpe_bundle)
    bundle.novelty = NoveltyIndex.build(DOCUMENTS)
    job = {
        "prompt": "The harbour",
        "seed": 11,
        "characters": ["Tom", "Una"],
        "required_words": ["rope"],
        "ending": "It was late.",
        "forbid_loops": 3,
        "max_new_tokens": 90,
    }
    events = list(TextEngine(bundle, slots=2).generate(job))
    ids = [token for event in events if event["event"] == "tokens" for token in event["ids"]]
    assert len(ids) > 30
    for cut in range(0, len(ids) + 1, 3):
        rest = list(TextEngine(bundle, slots=2).generate({**job, "resume_ids": ids[:cut]}))
        assert rest[-1]["text"] == events[-1]["text"]
        assert rest[-1]["finish_reason"] == events[-1]["finish_reason"]


@pytest.mark.parametrize(
    ("job", "field", "message"),
    [
        ({"characters": ["mia"]}, "characters", "names, which begin with a capital; got 'mia'"),
        ({"characters": ["Mr Fox"]}, "characters", "words of 1 to 40 letters each"),
        ({"characters": "Mia"}, "characters", "must be a list"),
        (
            {"characters": ["Mia"], "forbidden_words": ["mia"]},
            "forbidden_words",
            "'Mia', which is among characters",
        ),
        ({"characters": ["Mia"], "regex": "a+"}, "regex", "cannot be combined with characters; got 'a+'"),
        ({"ending": "End.", "starts_with": "A"}, "starts_with", "cannot be combined with ending"),
        ({"ending": "End.", "stop": ["x"]}, "stop", "cannot be combined with ending"),
        (
            {"ending": "End.", "min_new_tokens": 3},
            "min_new_tokens",
            "must be absent or 0 with an ending; got 3",
        ),
        ({"forbid_loops": 1}, "forbid_loops", "from 2 to 32; got 1"),
        (
            {"characters": ["Mia"], "max_new_tokens": 2},
            "max_new_tokens",
            "is 2; with this characters a story takes",
        ),
        ({"required_words": ["ю" * 3]}, "required_words", "needs 'ю', for which this model has no token"),
        ({"opening": ""}, "opening", "a string of 1 to 1000 characters"),
    ],
)
def test_impossible_stories_are_errors_of_the_job(
    engine: TextEngine, job: dict[str, Any], field: str, message: str
) -> None:
    event = last(engine, **job)
    assert (event["event"], event["field"]) == ("error", field)
    assert message in event["error"]


def test_characters_need_the_texts_that_a_model_has_learned_from(bpe_stories: Bundle) -> None:
    config = BundleConfig("noise", "noise", {"architecture": "noise"}, kind="documents", seed_words=False)
    bare = Bundle(config, bpe_stories.model, bpe_stories.tokenizer, SeedWords((), ()))
    engine = TextEngine(bare, slots=1)
    assert last(engine, characters=["Mia"])["field"] == "characters"
    assert last(engine, forbid_loops=3)["event"] == "end"
