"""`inkwell bench libraries` without the libraries: our own sides really generate, and what is missing is said."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import libraries
from measure import Figure
from others import Setting, ctranslate, huggingface, llama_cpp

TINY = {"architecture": "gpt", "layers": 2, "heads": 2, "width": 32, "window": 32, "vocabulary": 300}
OTHERS = {
    "transformers": huggingface.float32,
    "ctranslate2": ctranslate.int8,
    "gguf": llama_cpp.q8_0,
}


@pytest.fixture
def model():
    torch.manual_seed(1)
    return libraries.random_model(TINY)


@pytest.fixture
def only_torch(monkeypatch):
    monkeypatch.setitem(libraries.MODELS, "gpt 6x384, V 4000", TINY)
    monkeypatch.setattr(
        libraries, "libraries", lambda: {"inkwell torch": lambda m: libraries.inkwell("torch", m)}
    )


def test_our_side_takes_the_tokens_that_the_model_finds_most_likely(model):
    [text] = libraries.inkwell("torch", model)(1, 6, libraries.GREEDY)
    ids = [1]
    for _ in range(6):
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1]
        logits[0] = -torch.inf  # the end mark is barred
        ids.append(int(logits.argmax()))
    assert text == ids[1:]
    assert len(set(text)) > 1, "a model that repeats itself would agree with anything"


def test_rows_are_drawn_from_seeds_of_their_own(model):
    texts = libraries.inkwell("torch", model)(3, 8, Setting(1.0, 0))
    assert [len(text) for text in texts] == [8, 8, 8]
    assert texts[0] != texts[1]


@pytest.mark.parametrize("package", OTHERS)
def test_a_library_that_is_not_installed_is_named_with_how_to_install_it(package, model, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    found, missing = libraries.opened({"theirs": OTHERS[package]}, model)
    assert found == {}
    assert len(missing) == 1
    assert package in missing[0]
    assert "benchmarks/requirements.txt" in missing[0]
    assert (Path(libraries.__file__).parent / "requirements.txt").is_file()


@pytest.mark.parametrize("package", OTHERS)
def test_a_library_that_is_installed_finds_the_same_tokens(package):
    """All of them in float32; rounded weights lose some, while wrong ones would find next to none of 300."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    same = 0
    for seed in (0, 3):
        torch.manual_seed(seed)
        model = libraries.random_model(TINY)
        found, missing = libraries.opened({"theirs": OTHERS[package]}, model)
        assert not missing
        [wanted] = libraries.inkwell("torch", model)(1, 4, libraries.GREEDY)
        same += libraries.agreement(found["theirs"], wanted)
    assert same >= (8 if package == "transformers" else 4)


def test_agreement_ends_with_the_first_other_token():
    assert libraries.agreement(lambda *_: [[1, 2, 9, 4]], [1, 2, 3, 4]) == 2
    assert libraries.agreement(lambda *_: [[1, 2, 3, 4]], [1, 2, 3, 4]) == 4


def test_a_library_that_gives_fewer_tokens_than_asked_for_is_not_timed():
    with pytest.raises(RuntimeError, match="2 texts of 3 tokens"):
        libraries.repeated(lambda *_: [[1, 2, 3], [1, 2]], 2, 3)()


def test_fewer_tokens_are_drawn_where_a_round_would_take_too_long():
    now = [0.0]

    def slow(_rows, tokens, _setting):
        now[0] += 0.1 * tokens
        return [[1] * tokens]

    def fitting(most, seconds):
        return libraries.fitting(slow, 1, most, seconds, lambda: now[0])

    assert fitting(64, 100) == 64
    assert fitting(64, 2.05) == 20
    assert fitting(64, 0.1) == libraries.LEAST
    assert fitting(4, 0.1) == 4


def test_the_table_says_how_many_times_faster_the_first_side_is():
    figures = [Figure("x", "ours", (1.0, 1.0, 1.2), 100), Figure("x", "theirs", (2.0, 2.0, 2.0), 50)]
    ours, theirs = libraries.table(figures, {"ours": 16, "theirs": 3})
    assert ours[2:] == ("100", "1.00x", "±10%", "16 of 16")
    assert theirs[2:] == ("25", "4.00x", "±0%", "3 of 16")


def test_a_run_on_a_tiny_shape_records_every_round(only_torch, tmp_path, capsys):
    file = tmp_path / "rounds.json"
    words = ["--only", "gpt 6", "--rows", "1", "3", "--tokens", "9", "--rounds", "2", "--threads", "1"]
    libraries.main([*words, "--json", str(file)])
    assert "16 of 16" in capsys.readouterr().out
    figures = json.loads(file.read_text())["figures"]
    assert [(one["what"], one["work"], len(one["seconds"])) for one in figures] == [
        ("gpt 6x384, V 4000, 1 rows", 9, 2),
        ("gpt 6x384, V 4000, 3 rows", 27, 2),
    ]


@pytest.mark.parametrize(
    "words", [("--only", "rnn"), ("--tokens", "0"), ("--tokens", "128"), ("--rows", "0"), ("--rows", "65")]
)
def test_bad_options_are_refused_with_what_is_allowed(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        libraries.main(list(words))
    assert words[0] in capsys.readouterr().err
