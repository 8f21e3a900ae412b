"""Texts that will not do are dropped and drawn again: copies, duplicates, wrong syllables; and ranks."""

from __future__ import annotations

import httpx
import pytest

from api import phonetics
from api.params import MAX_SEED
from api.plan import REDRAW_STRIDE


def ask(base, path="/generate", **parameters):
    body = {"inputs": "abc", "parameters": {"seed": 3, "max_new_tokens": 6, "details": True, **parameters}}
    return httpx.post(base + path, json=body, timeout=20)


def marked(verdict="novel", exact=False, longest=3, ratio=0.1):
    return {
        "verdict": verdict,
        "exact_copy": exact,
        "longest": longest,
        "ratio": ratio,
        "excerpt": "abc",
        "source": {"document": 1, "title": None, "offset": 5},
    }


def copies_of(*texts, **found):
    return lambda text: marked("copy", exact=True, longest=6, ratio=1.0) if text in texts else marked(**found)


def seed_of(draw, samples=1, base=3):
    """The documented seed of a draw that replaces another."""
    return (base + (draw - samples + 1) * REDRAW_STRIDE) % (MAX_SEED + 1)


def test_a_mark_is_passed_on_and_counted(serve, worker):
    base = serve()
    worker.copies = copies_of(ratio=0.25)
    details = ask(base, novelty="mark").json()["details"]
    assert details["novelty"] == marked(ratio=0.25)
    assert 'inkwell_novelty_ratio_sum{model="prose"} 0.25' in httpx.get(base + "/metrics").text


def test_a_mark_is_passed_on_in_a_stream_and_under_v1(base, worker):
    worker.copies = copies_of()
    body = {"inputs": "abc", "parameters": {"novelty": "mark", "max_new_tokens": 3}}
    last = httpx.post(base + "/generate_stream", json=body, timeout=20).text.strip().splitlines()[-1]
    assert '"verdict":"novel"' in last
    choice = httpx.post(base + "/v1/completions", json={"prompt": "a", "novelty": "mark"}).json()["choices"][
        0
    ]
    assert choice["novelty"]["verdict"] == "novel"


def test_a_rejected_copy_is_drawn_again_with_the_documented_seed(serve, worker, expected):
    base = serve()
    worker.copies = copies_of(expected("abc", 3, 6), expected("abc", seed_of(1), 6))
    answer = ask(base, novelty="reject").json()
    # The second round draws one, the third two of which the first will do.
    assert answer["details"]["seed"] == seed_of(2)
    assert answer["generated_text"] == expected("abc", seed_of(2), 6)
    assert 'inkwell_novelty_rejections_total{model="prose"} 2.0' in httpx.get(base + "/metrics").text


def test_a_model_that_only_copies_is_refused_in_numbers_and_no_copy_leaves(base, worker):
    worker.copies = lambda _: marked("copy")
    response = ask(base, novelty={"mode": "reject", "max_overlap_chars": 4})
    assert response.status_code == 422
    error = response.json()["error"]
    assert error.startswith("novelty: only 0 of 1 texts would do after ")
    assert "repeated the training text" in error
    assert worker.posts[0][0]["novelty"] == {"mode": "reject", "max_overlap_chars": 4}


def test_a_ratio_is_judged_by_the_gateway(base, worker, expected):
    first = expected("abc", 3, 6)
    worker.copies = lambda text: marked(ratio=0.6 if text == first else 0.5)
    answer = ask(base, novelty={"mode": "reject", "max_ratio": 0.5}).json()
    assert answer["generated_text"] != first
    assert answer["details"]["novelty"]["ratio"] == 0.5
    assert worker.posts[0][0]["novelty"] == {"mode": "reject"}


def test_reject_without_an_index_is_refused_rather_than_ignored(base):
    response = ask(base, novelty="reject")
    assert response.status_code == 422
    assert "carries no index of its training text" in response.json()["error"]


def test_dropped_candidates_of_best_of_do_not_cost_the_answer(base, worker, expected):
    worker.copies = copies_of(*(expected("abc", seed, 6) for seed in (3, 4)))
    details = ask(base, novelty="reject", best_of=4).json()["details"]
    assert len(details["best_of_sequences"]) == 1
    assert {details["seed"], details["best_of_sequences"][0]["seed"]} == {5, 6}


def test_unique_answers_stand_in_no_training_document(base, worker, expected):
    known = expected("abc", 3, 6)
    worker.copies = lambda text: marked(exact=text == known)
    texts = [answer["generated_text"] for answer in ask(base, unique=True, n=3).json()]
    assert len(set(texts)) == 3
    assert known not in texts
    assert all(job["novelty"] == {"mode": "mark"} for post in worker.posts for job in post)


def test_a_session_and_unique_hold_together(base, worker):
    worker.copies = lambda _: marked()
    given = []
    for _ in range(5):
        answers = ask(base, unique=True, session="both", n=2, max_new_tokens=1).json()
        given += [answer["generated_text"] for answer in answers]
    assert len(set(given)) == 10


@pytest.mark.parametrize(("asked", "allowed"), [(2, {2}), ([1, 3], {1, 2, 3})])
def test_names_have_the_syllables_asked_for(base, asked, allowed):
    answers = ask(base, syllables=asked, n=4, max_new_tokens=8).json()
    counts = [phonetics.syllables("abc" + answer["generated_text"]) for answer in answers]
    assert set(counts) <= allowed
    assert [answer["details"]["syllables"] for answer in answers] == counts


def test_syllables_that_cannot_be_had_are_refused_in_numbers(base):
    response = ask(base, syllables=40)
    assert response.status_code == 422
    assert "had another number of syllables" in response.json()["error"]


def test_rank_novelty_puts_the_least_copied_first(base, worker):
    worker.copies = lambda text: marked(ratio=len(set(text)) / 20, longest=1)
    answers = ask(base, rank="novelty", n=6).json()
    ratios = [answer["details"]["novelty"]["ratio"] for answer in answers]
    assert ratios == sorted(ratios)
    assert len(set(ratios)) > 1


def test_rank_pronounceable_puts_the_easiest_first(base):
    answers = ask(base, rank="pronounceable", n=8).json()
    scores = [answer["details"]["pronounceability"] for answer in answers]
    assert scores == sorted(scores, reverse=True)
    assert scores == [round(phonetics.score("abc" + a["generated_text"]), 4) for a in answers]
    assert len(set(scores)) > 1


def test_best_of_takes_the_rank_asked_for(base):
    details = ask(base, rank="pronounceable", best_of=8).json()["details"]
    others = [phonetics.score("abc" + other["generated_text"]) for other in details["best_of_sequences"]]
    assert details["pronounceability"] >= round(max(others), 4)
