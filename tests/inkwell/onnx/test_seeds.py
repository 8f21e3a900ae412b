"""The promise of a seed on ONNX Runtime: one text, alone and in any company."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from inkwell.bundle import load_bundle
from inkwell.session import TextEngine

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

BUNDLES = ("char_bundle", "bpe_bundle", "gpt_bundle")


def jobs(count: int, categories: bool) -> list[dict[str, Any]]:
    """Jobs of all kinds: short and long, filtered and penalised, with a prompt and without, some guided."""
    draw = random.Random(count)
    made: list[dict[str, Any]] = []
    for number in range(count):
        job = {
            "id": f"job-{number}",
            "seed": number,
            "prompt": draw.choice(["The", "The harbour lay quiet under the ", "lantern"]),
            "temperature": draw.choice([0.7, 1.0, 1.3]),
            "top_k": draw.choice([0, 5, 20]),
            "repetition_penalty": draw.choice([1.0, 1.2]),
            "max_new_tokens": draw.randrange(1, 30),
        }
        if categories and number % 2:
            job |= {"category": draw.choice(["elf", "ork"]), "guidance": draw.choice([1.0, 2.0])}
        made.append(job)
    return made


def texts(folder: Path, work: list[dict[str, Any]], slots: int) -> dict[str, str]:
    """What every job gets when `slots` rows are worked on at a time, in an order of its own."""
    engine = TextEngine(load_bundle(folder), slots=slots, runtime="onnx")
    random.Random(slots).shuffle(work := list(work))
    sink: list[Any] = []
    for job in work:
        engine.submit(job, sink)
    while not engine.idle:
        engine.advance(0.0, 0.0)
    ends = [event for event in sink if event["event"] in ("end", "error")]
    assert all(event["event"] == "end" for event in ends), ends
    return {event["job"]: event["text"] for event in ends}


@pytest.mark.parametrize("name", BUNDLES)
def test_a_seed_gives_one_text_alone_and_in_a_full_batch(name: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(name)
    work = jobs(90, categories=name == "gpt_bundle")
    together = texts(folder, work, 64)
    assert len(together) == len(work)
    assert len(set(together.values())) > 45
    assert together == texts(folder, work, 2)  # a guided job takes two rows


@pytest.mark.parametrize("name", BUNDLES)
def test_a_text_is_written_alike_with_and_without_a_break(name: str, request: pytest.FixtureRequest) -> None:
    engine = TextEngine(load_bundle(request.getfixturevalue(name)), slots=4, runtime="onnx")
    assert engine.runtime == engine.describe()["runtime"] == "onnx"
    job = {"prompt": "The harbour lay quiet under", "temperature": 1.2, "seed": 3, "max_new_tokens": 60}
    whole = list(engine.generate(job))
    ids = [token for event in whole if event["event"] == "tokens" for token in event["ids"]]
    assert len(ids) > 5
    rest = list(engine.generate({**job, "resume_ids": ids[:5]}))
    assert rest[-1]["text"] == whole[-1]["text"]
