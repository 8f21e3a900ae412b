"""`inkwell generate --url`: the program against the gateway."""

from __future__ import annotations

import hashlib
import json
import threading

import pytest
import structlog
import typer
from typer.testing import CliRunner

from inkwell.bundle import load_bundle
from inkwell.session import TextEngine
from training.cli import app


@pytest.fixture(autouse=True)
def quiet_gateway():
    """The gateway runs in this process, and the runner takes what it logs for the program's output."""
    before = structlog.get_config()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.configure(**before)


@pytest.fixture
def generate(base):
    def invoke(*words, status=0, url=base, input=None, env=None):
        line = ["generate", "--url", url, *map(str, words)]
        result = CliRunner().invoke(app, line, input=input, env=env)
        assert result.exit_code == status, (result.output, result.exception)
        return result

    return invoke


def test_a_text_is_shown_as_it_comes_and_its_seed_beside_it(generate, expected):
    result = generate("prose", "The harbour", "--length", 12, "--seed", 5)
    assert result.stdout == "The harbour" + expected("The harbour", 5, 12) + "\n"
    assert result.stderr == "seed 5\n"


def test_a_text_begins_to_show_before_it_is_done(serve, worker, generate, monkeypatch):
    worker.step_s = 0.05
    shown = []
    echo = typer.echo
    monkeypatch.setattr(typer, "echo", lambda *a, **k: (shown.append(len(worker.active)), echo(*a, **k)))
    generate("prose", "abc", "--length", 8, url=serve())
    assert any(shown), "every token was shown only after the worker had finished"


def test_without_a_prompt_the_seed_word_is_named(generate, expected):
    result = generate("prose", "--length", 3, "--seed", 1)
    assert result.stdout == expected("lantern", 1, 3) + "\n"
    assert result.stderr == "seed 1, after the seed word 'lantern'\n"


def test_many_texts_are_those_of_seeds_in_a_row(generate, expected):
    texts = generate("names", "a", "-n", 5, "--length", 7, "--seed", 9).stdout.splitlines()
    assert texts == ["a" + expected("a", seed, 7) for seed in range(9, 14)]


def test_many_texts_are_asked_for_in_parallel(serve, worker, generate):
    # They gather while the first POST waits at the gate, and leave together.
    worker.gate.clear()
    threading.Timer(0.5, worker.gate.set).start()
    generate("prose", "a", "-n", 12, "--length", 5, url=serve())
    assert len(worker.posts) < 12
    assert sum(map(len, worker.posts)) == 12


def test_texts_can_be_had_as_json(generate, expected):
    lines = generate("prose", "ab", "-n", 2, "--length", 4, "--seed", 3, "--json").stdout.splitlines()
    first, second = map(json.loads, lines)
    assert (first["prompt"], first["generated_text"], first["seed"]) == ("ab", expected("ab", 3, 4), 3)
    assert (second["seed"], second["finish_reason"], second["generated_tokens"]) == (4, "length", 4)


def test_any_parameter_can_be_set(generate, worker):
    generate("prose", "ab", "--length", 2, "--set", "min_p=0.05", "--temperature", 0.5)
    [[job]] = worker.posts
    assert (job["min_p"], job["temperature"]) == (0.05, 0.5)


def test_a_search_is_one_request_for_its_best_texts(generate, worker, bpe_bundle):
    worker.engine = TextEngine(load_bundle(bpe_bundle), slots=8)
    words = ("prose", "The", "--length", 9, "--num-beams", 4, "--length-penalty", 0.5)
    lines = generate(*words, "-n", 2, "--json").stdout.splitlines()
    best = list(
        worker.engine.generate(
            {
                "prompt": "The",
                "max_new_tokens": 9,
                "num_beams": 4,
                "length_penalty": 0.5,
                "num_return_sequences": 2,
            }
        )
    )[-1]["beams"]
    assert [json.loads(line)["generated_text"] for line in lines] == [beam["text"] for beam in best]
    assert [json.loads(line)["score"] for line in lines] == pytest.approx([beam["score"] for beam in best])
    assert generate(*words).stdout == "The" + best[0]["text"] + "\n"


def test_prompts_and_settings_can_be_typed(generate, expected):
    result = generate("prose", "--interactive", "--seed", 2, input="len 4\nab\nquit\n")
    assert "max_new_tokens is 4" in result.stdout
    assert "ab" + expected("ab", 2, 4) in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("poems", "a"), "served are: prose, names"),
        (("prose", "a", "--temperature", "-1"), "temperature must be"),
        (("prose", "a", "--set", "temprature=1"), "did you mean temperature"),
        (("names", "a", "-c", "goblin"), "category must be one of elf, bear"),
        (("prose", "explode"), "this job failed"),
    ],
)
@pytest.mark.parametrize("more", [(), ("-n", "3")])
def test_what_is_wrong_is_said_in_a_sentence(generate, words, message, more):
    result = generate(*words, *more, status=3)
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_a_gateway_that_is_not_there_is_told(generate, server):
    server.close()
    assert "error: http://127.0.0.1" in generate("prose", "a", status=3, url=server.url).stderr


def test_a_wrong_address_is_told(generate):
    assert "url must look like" in generate("prose", "a", status=3, url="localhost:8000").stderr


def test_the_key_comes_from_the_environment(serve, generate, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text(f"reader sha256:{hashlib.sha256(b'open-sesame').hexdigest()}\n")
    url = serve(key_file=keys)
    generate("prose", "a", "--length", 2, url=url, env={"INKWELL_API_KEY": "open-sesame"})
    assert "error:" in generate("prose", "a", status=3, url=url, env={"INKWELL_API_KEY": ""}).stderr
