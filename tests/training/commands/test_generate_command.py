"""`inkwell generate`: text without any server."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from inkwell.bundle import load_bundle
from inkwell.session import TextEngine
from training.commands.generate_here import rows_for


def text_of(folder, **values):
    """Prompt and text, as the session gives them: the oracle."""
    engine = TextEngine(load_bundle(folder), slots=1)
    events = list(engine.generate(values))
    return events[0]["prompt"] + events[-1]["text"]


def test_a_text_is_streamed_as_it_is_and_its_seed_named_beside_it(trained):
    result = trained.succeed("generate", "prose", "The harbour", "--length", 40, "--seed", 7)
    expected = text_of(trained.folder / "bundles" / "prose", prompt="The harbour", seed=7, max_new_tokens=40)
    assert result.stdout == expected + "\n"
    assert result.stderr.strip() == "seed 7"


def test_symbols_that_a_terminal_library_would_interpret_come_through(trained, tmp_path):
    # Greedy and forced: the text must be exactly this.
    corpus = tmp_path / "marks.txt"
    corpus.write_text("a:dog:[bold]b[/]\tc " * 40)
    trained.succeed(
        "train",
        "prose",
        "--corpus",
        corpus,
        "--name",
        "marks",
        "--out",
        tmp_path / "marks",
        sets=trained.small_prose,
    )
    wanted = r":dog:\[bold\]b\[/\]\tc"
    result = trained.succeed("generate", tmp_path / "marks", "a", "--set", f"regex={json.dumps(wanted)}")
    assert result.stdout == "a:dog:[bold]b[/]\tc\n"


def test_several_texts_are_those_of_seeds_in_a_row(trained):
    words = ("generate", "prose", "Old", "-n", 3, "--seed", 20, "--length", 15)
    folder = trained.folder / "bundles" / "prose"
    expected = [text_of(folder, prompt="Old", seed=20 + n, max_new_tokens=15) for n in range(3)]
    answers = [json.loads(line) for line in trained.succeed(*words, "--json").stdout.splitlines()]
    assert [answer["seed"] for answer in answers] == [20, 21, 22]
    assert [answer["prompt"] + answer["generated_text"] for answer in answers] == expected
    assert {answer["finish_reason"] for answer in answers} == {"length"}
    assert {answer["generated_tokens"] for answer in answers} == {15}
    assert trained.succeed(*words).stdout == "".join(f"{text}\n" for text in expected)


def test_texts_without_a_seed_differ(trained):
    words = ("generate", "prose", "Old", "-n", 4, "--length", 40, "--json")
    answers = [json.loads(line) for line in trained.succeed(*words).stdout.splitlines()]
    assert len({answer["seed"] for answer in answers}) == 4
    assert len({answer["generated_text"] for answer in answers}) > 1


def test_an_archive_gives_the_same_text_as_its_bundle(trained):
    words = ("The", "--seed", 3, "--length", 30)
    bundle = trained.succeed("generate", "prose", *words).stdout
    assert trained.succeed("generate", "model_store/prose.mar", *words).stdout == bundle
    assert trained.succeed("generate", "bundles/prose", *words).stdout == bundle


def test_an_empty_prompt_begins_with_a_word_of_the_corpus(trained):
    answer = json.loads(trained.succeed("generate", "prose", "--json", "--length", 5).stdout)
    assert answer["seed_word"] == answer["prompt"]
    assert answer["seed_word"] in load_bundle(trained.folder / "bundles" / "prose").words.words


def test_a_category_is_followed(trained):
    words = ("generate", "names", "--category", "elf", "--seed", 5)
    expected = text_of(trained.folder / "bundles" / "names", category="elf", seed=5)
    assert trained.succeed(*words).stdout == expected + "\n"
    answer = json.loads(trained.succeed(*words, "--json").stdout)
    assert answer["category"] == {"elf": 1.0}


def test_any_field_of_a_job_can_be_set(trained):
    folder = trained.folder / "bundles" / "prose"
    expected = text_of(folder, prompt="Old", seed=1, max_new_tokens=20, stop=["e"], temperature=0.5)
    words = ("generate", "prose", "Old", "--seed", 1, "--length", 20, "--temperature", 0.5)
    assert trained.succeed(*words, "--set", 'stop=["e"]').stdout == expected + "\n"
    assert (
        trained.succeed(*words, "--set", 'stop=["e"]', "--top-k", 0, "--top-p", 1).stdout == expected + "\n"
    )


def test_a_category_can_be_made_to_count_for_more(trained):
    folder = trained.folder / "bundles" / "names"
    engine = TextEngine(load_bundle(folder), slots=2)
    job = {"category": "elf", "guidance": 4, "seed": 5}
    texts = []
    for seed in (5, 6, 7):
        events = list(engine.generate({**job, "seed": seed}))
        texts.append(events[0]["prompt"] + events[-1]["text"])
    words = ("generate", "names", "--category", "elf", "--guidance", 4, "--seed", 5)
    assert trained.succeed(*words).stdout == texts[0] + "\n"
    assert trained.succeed(*words, "-n", 3).stdout == "".join(f"{text}\n" for text in texts)


def test_a_search_gives_its_best_texts(trained):
    folder = trained.folder / "bundles" / "prose"
    engine = TextEngine(load_bundle(folder), slots=4)
    job = {"prompt": "Old", "num_beams": 4, "num_return_sequences": 3, "max_new_tokens": 12}
    best = list(engine.generate(job))[-1]["beams"]
    words = ("generate", "prose", "Old", "--num-beams", 4, "--length", 12)
    assert trained.succeed(*words).stdout == "Old" + best[0]["text"] + "\n"
    lines = trained.succeed(*words, "-n", 3, "--json").stdout.splitlines()
    assert [json.loads(line)["generated_text"] for line in lines] == [beam["text"] for beam in best]
    assert [json.loads(line)["score"] for line in lines] == pytest.approx([beam["score"] for beam in best])


def test_a_story_is_told_by_its_rules(trained):
    ending = "The sailors went home."
    words = ("generate", "prose", "Old", "--length", 90, "--seed", 3, "--forbid-loops", 3, "--forbid", "the")
    more = ("--opening", " harbour.", "--ending", ending, "--require", "lantern")
    text = trained.succeed(*words, *more).stdout.removesuffix("\n")
    assert text.startswith("Old harbour.")
    assert text.endswith(f" {ending}")
    told = re.findall(r"[^\W\d_]+", text.removesuffix(ending).lower())
    assert "lantern" in told
    assert "the" not in told
    runs = [tuple(told[at : at + 3]) for at in range(len(told) - 2)]
    assert len(set(runs)) == len(runs)


def test_rows_are_made_for_what_is_asked():
    assert rows_for(1, {}) == 1
    assert rows_for(10, {}) == 10
    assert rows_for(100, {}) == 64
    assert rows_for(1, {"guidance": 2.0}) == 2
    assert rows_for(100, {"guidance": 2.0}) == 64
    assert rows_for(1, {"guidance": 1}) == 1
    assert rows_for(9, {"num_beams": 9}) == 9
    assert rows_for(5, {"num_beams": 9, "guidance": 3}) == 18


@pytest.mark.parametrize(
    ("code", "words", "parts"),
    [
        (2, ["nobody"], ["no model 'nobody'", "here are names, prose"]),
        (2, ["prose", "x", "--set", "min_p"], ["'min_p'", "min_p=0.05"]),
        (2, ["prose", "x", "--device", "abacus"], ["'abacus'"]),
        (3, ["prose", "x", "--set", "colour=red"], ["colour is not a field"]),
        (3, ["prose", "x", "--temperature", "-1"], ["temperature", "-1"]),
        (3, ["prose", "x", "-n", "2", "--seed", "-5"], ["seed", "-5"]),
        (3, ["prose", "x", "-n", "2", "--set", "seed=x"], ["seed", "'x'"]),
        (3, ["prose", "x", "--length", "100000"], ["max_new_tokens is 100000"]),
        (3, ["prose", "x", "--category", "elf"], ["category", "has no categories"]),
        (3, ["prose", "x", "--num-beams", "17"], ["num_beams must be an integer from 1 to 16; got 17"]),
        (3, ["prose", "x", "--num-beams", "3", "-n", "4"], ["num_return_sequences is 4, above num_beams 3"]),
        (3, ["prose", "x", "--num-beams", "3", "-t", "0.5"], ["temperature must be absent or 0 or 1"]),
        (3, ["prose", "x", "--forbid-loops", "1"], ["forbid_loops must be an integer from 2 to 32; got 1"]),
        (3, ["names", "--category", "gnome"], ["'gnome'", "dwarf, elf"]),
        (3, ["damaged.mar"], ["damaged.mar"]),
    ],
)
def test_what_cannot_be_done_is_named(trained, code, words, parts):
    (trained.folder / "damaged.mar").write_bytes(b"not a zip file")
    text = trained.fail(code, "generate", *words)
    for part in parts:
        assert part in text


def test_without_any_model_the_way_to_one_is_shown(program):
    assert "`inkwell train prose` makes one" in program.fail(2, "generate", "prose")


def talk(program, *lines, model="prose"):
    result = program.succeed(
        "generate", model, "--interactive", "--length", 12, stdin="\n".join(lines) + "\n"
    )
    return result.stdout, result.stderr


def test_a_conversation_follows_prompts_and_settings(trained):
    folder = trained.folder / "bundles" / "prose"
    out, err = talk(
        trained, "help", "seed 4", "temp 0.5", "len 9", "The harbour", "again", "quit", "never read"
    )
    text = text_of(folder, prompt="The harbour", seed=4, temperature=0.5, max_new_tokens=9)
    assert out.count(text) == 2
    assert "temperature is 0.5" in out
    assert "max_new_tokens is 9" in out
    assert out.count("commands:") == 2
    assert err.split() == ["seed", "4"] * 2
    assert "never" not in out


def test_a_conversation_ends_with_its_input(trained):
    out, _ = talk(trained, "seed 4")
    assert "seed is 4" in out


def test_a_prompt_that_begins_like_a_command_is_a_prompt(trained):
    folder = trained.folder / "bundles" / "prose"
    out, _ = talk(trained, "seed 4", "seed corn", "category of ships")
    assert text_of(folder, prompt="seed corn", seed=4, max_new_tokens=12) in out
    assert text_of(folder, prompt="category of ships", seed=4, max_new_tokens=12) in out


def test_a_conversation_goes_on_after_an_error(trained):
    folder = trained.folder / "bundles" / "names"
    out, _ = talk(trained, "temp -2", "A", "temp 1", "category elf", "seed 2", "A", model="names")
    assert "temperature must be" in out
    assert text_of(folder, prompt="A", category="elf", seed=2, temperature=1, max_new_tokens=12) in out


def test_a_reader_that_leaves_early_ends_the_program_quietly(trained):
    arguments = [sys.executable, "-m", "training", "generate", "prose", "The", "-n", "64", "--length", "2000"]
    with subprocess.Popen(
        arguments, cwd=trained.folder, env=trained.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.read(10)
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
