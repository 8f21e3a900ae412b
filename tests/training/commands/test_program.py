"""What all verbs of `inkwell` have in common."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer

from inkwell import __version__
from training.cli import app
from training.commands.common import plain_errors


def verbs(command=None, words=()):
    """Every command of the program that shows help of its own, as the words that are typed."""
    command = command or typer.main.get_command(app)
    found = []
    if hasattr(command, "list_commands"):
        for name in command.list_commands(None):
            found += verbs(command.get_command(None, name), (*words, name))
        if not command.invoke_without_command:
            return found
    return [*found, words] if words else found


def test_the_verbs_are_found():
    assert {("train",), ("evaluate",), ("archive",), ("generate",), ("serve",), ("data", "build")} <= set(
        verbs()
    )


@pytest.mark.parametrize("words", verbs(), ids=" ".join)
def test_every_verb_shows_examples_of_itself(program, words):
    shown = program.succeed(*words, "--help").stdout
    assert "Example" in shown
    assert f"inkwell {' '.join(words)}" in shown


def test_help_after_the_name_of_a_benchmark_is_the_benchmarks_own(program):
    assert "compare" in program.succeed("bench", "-h").stdout
    done = subprocess.run(
        [sys.executable, "-m", "training", "bench", "compare", "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "usage: compare.py" in done.stdout


def test_without_a_verb_help_is_shown(program):
    result = program()
    assert "Usage" in result.output
    assert "train" in result.output


def test_the_version_is_printed(program):
    assert program.succeed("--version").stdout.strip() == f"inkwell {__version__}"


@pytest.mark.parametrize(
    "words", [["nonsense"], ["train", "--nonsense"], ["generate"], ["generate", "x", "-n", "0"]]
)
def test_a_line_that_cannot_be_understood_ends_with_2(program, words):
    assert program.fail(2, *words)


def test_the_module_is_the_program():
    answer = subprocess.run(
        [sys.executable, "-m", "training", "--version"], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == f"inkwell {__version__}"


def test_operating_system_errors_are_sentences_with_the_file(program):
    (program.folder / "runs").write_text("in the way")
    text = program.fail(1, "train", "prose", "--corpus", "prose.txt", sets=program.small_prose)
    assert "runs" in text
    assert "File exists" in text or "Not a directory" in text


def test_a_reader_that_has_left_is_not_told_so():
    def broken():
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        plain_errors(broken)()


def test_an_error_that_nobody_foresaw_keeps_its_traceback():
    def broken():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        plain_errors(broken)()


@pytest.mark.parametrize("verb", [["train", "--missing"], ["archive"]])
def test_a_bad_models_file_is_an_error_that_names_the_key(program, verb):
    file = program.folder / "models.toml"
    file.write_text('[models.prose]\nfamily = "prose"\nslotz = 3\n')
    program.environment["INKWELL_MODELS_FILE"] = str(file)
    text = program.fail(2, *verb)
    assert "models.prose.slotz" in text
    assert "did you mean slots?" in text


def test_a_corpus_goes_round_through_the_data_verbs(program):
    built = program.succeed("data", "build", "names", "names.csv", "--out", "names.jsonl").stdout
    assert "40 documents" in built
    shown = program.succeed("data", "show", "names.jsonl", "--json").stdout
    assert '"documents": 40' in shown
    program.succeed("data", "split", "names.jsonl", "--out", "parts", "--val", "0.2")
    lines = {
        name: len(Path(program.folder / "parts" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines())
        - 1
        for name in ("train", "val")
    }
    assert sum(lines.values()) == 40
    assert 0 < lines["val"] < 20
    program.succeed(
        "train", "names", "--corpus", "parts/train.jsonl", "--name", "part", sets=program.small_names
    )
    assert (program.folder / "bundles" / "part" / "config.json").is_file()


def test_data_errors_have_their_exit_codes(program):
    assert "no such file" in program.fail(3, "data", "show", "missing.txt")
    assert program.fail(2, "data", "fetch", "no-such-corpus")
