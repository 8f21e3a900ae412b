from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from training.commands.data import app
from training.data.corpus import load_jsonl
from training.errors import UserError
from training.settings import Settings

Run = Callable[..., Any]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setenv("INKWELL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("INKWELL_DATA_MIRROR", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def test_souls_are_built_with_a_drop_report(run: Run, tmp_path: Path, write_fmg: Callable[..., Path]) -> None:
    write_fmg("武器名", {1: "Axe", 2: "Axe +1", 3: "Bow"})
    root = write_fmg("武器うんちく", {1: "It never dries.", 2: None, 3: "no_text"})
    out, report = tmp_path / "souls.jsonl", tmp_path / "drops.json"
    result = run("build", "souls", root, "--out", out, "--report", report)
    assert result.exit_code == 0, result.output
    assert "upgrade (+N) of an item that is there" in result.output
    assert [d.text for d in load_jsonl(out).documents] == ["Axe. It never dries."]
    saved = json.loads(report.read_text(encoding="utf-8"))
    assert saved["corpus"]["documents"] == 1
    assert {drop["reason"]: drop["count"] for drop in saved["drops"]["drops"]} == {
        "blank (empty, %null%, no_text …)": 2,
        "upgrade (+N) of an item that is there": 1,
        "name without a description": 1,
    }


def test_names_are_built_grouped_split_and_shown(run: Run, tmp_path: Path) -> None:
    table = tmp_path / "n.csv"
    table.write_text("name,category\n" + "".join(f"Name{i},{'Elf' if i % 2 else 'Ent'}\n" for i in range(40)))
    out = tmp_path / "n.jsonl"
    result = run("build", "names", table, "--out", out, "--group", "--unmapped", "unknown")
    assert result.exit_code == 0, result.output
    assert "1 labels in no group (unknown): Ent (20)" in result.output
    assert load_jsonl(out).categories == {"Elves": 20, "unknown": 20}
    assert run("split", out, "--out", tmp_path / "parts", "--test", "0.1").exit_code == 0
    sizes = {p.stem: len(load_jsonl(p)) for p in (tmp_path / "parts").iterdir()}
    assert sizes == {"train": 32, "val": 4, "test": 4}
    shown = json.loads(run("show", out, "--json").output)
    assert (shown["documents"], shown["copies"], shown["shortest"]) == (40, 0, 5)
    assert "Elves (20)" in run("show", out).output


def test_prose_is_built_as_a_stream(run: Run, tmp_path: Path) -> None:
    text = tmp_path / "p.txt"
    text.write_text("a\nb\nc\n")
    assert run("build", "text", text, "--out", tmp_path / "p.jsonl").exit_code == 0
    assert load_jsonl(tmp_path / "p.jsonl").kind == "stream"


def test_corpus_is_fetched_from_a_mirror_and_listed(run: Run, tmp_path: Path) -> None:
    sources, mirror = tmp_path / "sources", tmp_path / "mirror"
    sources.mkdir()
    mirror.mkdir()
    (mirror / "a.txt").write_text("Ann\nBo\n")
    (sources / "small.toml").write_text(
        'title = "Small"\nfolder = "f"\nlicence = "MIT"\n[[files]]\nname = "a.txt"\nurl = "https://example.org/a.txt"\n'
        '[corpus]\nfile = "a.txt"\nkind = "documents"\ndivision = "line"\n'
    )
    result = run("fetch", "small", "--mirror", mirror, "--sources", sources)
    assert result.exit_code == 0, result.output
    assert "hash not in the catalogue" in result.output
    listed = run("list", "--sources", sources).output
    assert "small" in listed
    assert "yes" in listed
    built = run(
        "build", "source", "small", "--out", tmp_path / "s.jsonl", "--mirror", mirror, "--sources", sources
    )
    assert built.exit_code == 0, built.output
    assert [d.text for d in load_jsonl(tmp_path / "s.jsonl").documents] == ["Ann", "Bo"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["fetch", "ana"], 2, "did you mean anna"),
        (["fetch", "anna", "--mirror", "nowhere"], 2, "--mirror nowhere is not a folder"),
        (["show", "nothing.txt"], 3, "no such file or folder"),
        (["build", "souls", "x.csv", "--out", "o.jsonl"], 3, "no such file"),
        (["build", "auto", ".", "--out", "o.jsonl", "--encoding", "klingon"], 2, "'klingon'"),
        (["split", "p.txt", "--out", "o", "--val", "2"], 2, "val is 2.0"),
        (["split", "p.txt", "--out", "p.txt"], 2, "cannot be written"),
        (["build", "souls", "p.txt", "--out", "o.jsonl"], 2, "`build souls` reads .xml, .fmg, .msgbnd, .dcx"),
        (["build", "names", "one.txt", "--out", "o.jsonl", "--division", "line"], 2, "only one name found"),
    ],
)
def test_user_errors_are_one_sentence_and_an_exit_code(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.txt").write_text("Some prose\n\nthat goes on and on.\n" * 9)
    Path("one.txt").write_text("Ann\n")
    result = run(*words)
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert result.stderr.startswith("error: ")


def test_offline_fetch_says_what_to_do(run: Run, tmp_path: Path) -> None:
    (tmp_path / "far.toml").write_text(
        'title = "Far"\nfolder = "f"\nlicence = "MIT"\n[[files]]\nname = "a.txt"\nurl = "http://127.0.0.1:9/a.txt"\n'
        '[corpus]\nfile = "a.txt"\nkind = "stream"\n'
    )
    result = run("fetch", "far", "--sources", tmp_path)
    assert result.exit_code == 4
    assert "--mirror" in result.stderr


@pytest.mark.parametrize("command", ["fetch", "build", "list", "show", "split"])
def test_help_shows_an_example(run: Run, command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"inkwell data {command}" in result.output


def test_settings_come_from_the_environment(tmp_path: Path) -> None:
    env = {"INKWELL_DATA_DIR": str(tmp_path / "d"), "INKWELL_DATA_MIRROR": str(tmp_path)}
    settings = Settings.from_env(env)
    assert (settings.data_dir, settings.data_mirror) == (tmp_path / "d", tmp_path)
    assert Settings.from_env({}).data_dir.name == "data"
    with pytest.raises(UserError, match="INKWELL_DATA_MIRROR='nowhere' is not a folder"):
        Settings.from_env({"INKWELL_DATA_MIRROR": "nowhere"})


def test_a_wiki_is_built_with_a_mapping_that_was_listed_and_edited(run: Run, tmp_path: Path) -> None:
    dump = tmp_path / "folk.xml"
    pages = "".join(
        f"<page><title>{name}</title><ns>0</ns><id>{n}</id><revision><text>[[Category:{kind}]]</text></revision></page>"
        for n, (name, kind) in enumerate(
            [("Aino", "Wood elves"), ("Bela", "Wood elves"), ("Riverton", "Towns")]
        )
    )
    dump.write_text(f"<mediawiki>{pages}</mediawiki>")
    out, listed = tmp_path / "n.jsonl", tmp_path / "map.toml"
    assert run("build", "wiki", dump, "--out", out, "--list-categories", listed).exit_code == 0
    assert listed.read_text().splitlines()[-1] == '"Wood elves" = [] # 2 pages'
    listed.write_text('[groups]\nElves = ["* elves"]\n')
    report = tmp_path / "drops.json"
    words = ["--groups", listed, "--unmapped", "drop", "--report", report]
    assert run("build", "wiki", dump, "--out", out, *words).exit_code == 0
    assert load_jsonl(out).categories == {"Elves": 2}
    (drop,) = json.loads(report.read_text())["drops"]["drops"]
    assert (drop["reason"], drop["examples"]) == ("no category that the mapping knows", ["Riverton: Towns"])


def test_names_under_headings_are_built_from_a_page_and_from_text(run: Run, tmp_path: Path) -> None:
    page, text, out = tmp_path / "n.html", tmp_path / "n.txt", tmp_path / "n.jsonl"
    page.write_text("<h1>Elven Names</h1><p>Aino, Bela</p>")
    text.write_text("DWARVES\nBorin, Durak\n")
    assert run("build", "names", page, "--out", out).exit_code == 0
    assert load_jsonl(out).categories == {"Elven": 2}
    assert run("build", "names", text, "--out", out, "--headings").exit_code == 0
    assert load_jsonl(out).categories == {"Dwarves": 2}


def test_names_are_multiplied_and_keep_their_parts(run: Run, tmp_path: Path) -> None:
    given, family, out = tmp_path / "g.csv", tmp_path / "f.csv", tmp_path / "p.jsonl"
    given.write_text("name,category\n" + "".join(f"Given{i},Elf\n" for i in range(40)))
    family.write_text("name,category\n" + "".join(f"Family{i},Elf\n" for i in range(40)))
    result = run("product", given, family, "--out", out, "--count", "200")
    assert result.exit_code == 0, result.output
    parts = tmp_path / "parts"
    assert run("split", out, "--out", parts, "--by-group").exit_code == 0
    halves = [
        {word for document in load_jsonl(parts / f"{part}.jsonl").documents for word in document.text.split()}
        for part in ("train", "val")
    ]
    assert all(halves)
    assert not halves[0] & halves[1]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["scrape", "nowhere", "--out", "p", "--contact", "a@b.c"], "'nowhere' is no address"),
        (["scrape", "http://127.0.0.1:9/", "--out", "p", "--contact", "me"], "contact is 'me'"),
        (["build", "wiki", "x.txt", "--out", "o", "--namespaces", "a"], "--namespaces 'a'"),
        (["product", "nobody", "surnames_by_country", "--out", "o"], "no corpus is named 'nobody'"),
    ],
)
def test_bad_words_of_the_makers_are_named(run: Run, words: list[str], complaint: str) -> None:
    result = run(*words)
    assert result.exit_code == UserError.exit_code
    assert complaint in " ".join(result.stderr.split())


@pytest.mark.parametrize("verb", ["list", "fetch", "build", "scrape", "product", "show", "split"])
def test_every_verb_about_corpora_has_an_example(run: Run, verb: str) -> None:
    assert f"inkwell data {verb}" in " ".join(run(verb, "--help").output.split())
