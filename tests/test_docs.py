"""What the pages name exists: files, links, headings, commands with their options, Makefile targets."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from training.cli import VERBS, load
from training.data.sources import list_sources
from training.errors import UserError
from training.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAM = "inkwell"
FOLDERS = ("inkwell", "training", "handlers", "api", "deploy", "docs", "tests", "benchmarks", "examples")

_FENCE = re.compile(r"^(?P<mark>`{3,}|~{3,})[^\n]*\n(?P<body>.*?)^(?P=mark)[ \t]*$", re.M | re.S)
_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.S)
_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_HEADING = re.compile(r"^#{1,6}[ \t]+(.+?)[ \t#]*$", re.M)
# A path of this project: a folder of ours and something below it, or anything that ends like a program file.
_PATH = re.compile(
    rf"(?<![\w/.:~$@-])(?:(?:{'|'.join(FOLDERS)})(?:/[\w.*-]+)+|(?:[\w.*-]+/)+[\w.*-]+\.py)(?![\w/-])/?"
)
_PLACEHOLDER = re.compile(r"\b[A-Z][A-Z_]+\b")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_OPTION = re.compile(r"--?[A-Za-z][\w-]*")
_TARGET = re.compile(r"^([a-z0-9][a-z0-9-]*):(?!=)", re.M)


class Page(NamedTuple):
    """A page taken apart: sentences without code, code within sentences, and fenced blocks."""

    prose: str
    spans: list[str]
    blocks: list[str]

    @property
    def code(self) -> list[str]:
        return self.spans + self.blocks


def taken_apart(text: str) -> Page:
    blocks = [found["body"] for found in _FENCE.finditer(text)]
    rest = _FENCE.sub("\n", text)
    return Page(_SPAN.sub("\x00", rest), [found[2] for found in _SPAN.finditer(rest)], blocks)


def slug(heading: str) -> str:
    """The anchor of a heading as code hosts make it."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def broken_links(text: str, page: Path) -> list[str]:
    wrong = []
    for target in _LINK.findall(taken_apart(text).prose.replace("\x00", "x")):
        if re.match(r"[a-z][a-z0-9+.-]*:", target) or target.startswith("//"):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        if name and not file.exists():
            wrong.append(f"{target}: no such file")
        elif anchor and file.suffix == ".md":
            other = text if not name else file.read_text(encoding="utf-8")
            if anchor not in {slug(heading) for heading in _HEADING.findall(_FENCE.sub("\n", other))}:
                wrong.append(f"{target}: no such heading")
    return wrong


def missing_paths(text: str, page: Path) -> list[str]:
    """Paths of this project that do not exist. `*` and words in capitals stand for any name; a module may be
    named without its ending."""
    named = {found.rstrip("/.") for found in _PATH.findall(text)}
    wrong = []
    for path in sorted(named):
        pattern = _PLACEHOLDER.sub("*", path) if not (ROOT / path).exists() else path
        places = [ROOT, page.parent]
        if (ROOT / f"{path}.py").is_file():
            continue
        if not any((place / path).exists() or any(place.glob(pattern)) for place in places):
            wrong.append(path)
    return wrong


def simple_commands(code: str) -> Iterator[list[str]]:
    """Words of each command: lines joined, comments left out, pipes and lists taken apart."""
    for line in re.sub(r"\\\n\s*", " ", code).splitlines():
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=";|&<>()")
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError:  # an apostrophe in output that stands beside the commands
            words = line.split()
        command: list[str] = []
        for word in words:
            if word and set(word) <= set(";|&()"):
                yield _bare(command)
                command = []
            else:
                command.append(word)
        yield _bare(command)


def _bare(words: list[str]) -> list[str]:
    """A command without the variables set before it."""
    for index, word in enumerate(words):
        if not _ASSIGNMENT.match(word):
            return words[index:]
    return []


def calls(code: str) -> Iterator[list[str]]:
    """What follows the program's name in each of its calls."""
    for words in simple_commands(code):
        if words and words[0] in (PROGRAM, f".venv/bin/{PROGRAM}"):
            yield words[1:]
        else:
            for at in range(len(words) - 1):
                if words[at : at + 2] == ["-m", "training"]:
                    yield words[at + 2 :]


@cache
def command_of(verb: str) -> Any:
    return load(VERBS[verb], verb)


def options_of(command: Any) -> set[str]:
    """Options that `--help` of a command shows."""
    shown = [option for option in command.params if option.param_type_name == "option" and not option.hidden]
    found = {name for option in shown for name in (*option.opts, *option.secondary_opts)}
    return found | {"--help"}


def wrong_in_call(words: list[str]) -> list[str]:
    """What is wrong with one call of the program, given the words after its name."""
    if not words or words[0] in ("…", "...", "--help", "--version") or _PLACEHOLDER.fullmatch(words[0]):
        return []
    verb, rest = words[0], words[1:]
    if verb not in VERBS:
        return [f"{verb!r} is no verb; there are {', '.join(VERBS)}"]
    if verb == "bench":
        return _wrong_in_benchmark(rest)
    command, place, wrong = command_of(verb), verb, []
    for word in rest:
        if _OPTION.match(word):
            name = word.partition("=")[0]
            known = options_of(command)
            if name not in known and not (re.match(r"-[A-Za-z]", name) and name[:2] in known):
                wrong.append(f"{place} has no option {name}; there are {', '.join(sorted(known))}")
        elif word in getattr(command, "commands", {}):
            command, place = command.commands[word], f"{place} {word}"
    inner = getattr(command, "commands", {})
    if inner and not command.invoke_without_command and "--help" not in rest and rest[:1] not in ([], ["…"]):
        wrong.append(f"{place} {rest[0]} is no command; there are {', '.join(inner)}")
    if verb == "train":
        wrong += _wrong_recipe(rest)
    if words[:2] == ["data", "fetch"]:
        known = {source.name for source in list_sources()}
        names = [word for word in _positional(words[2:]) if not _PLACEHOLDER.fullmatch(word) and word != "…"]
        wrong += [
            f"{name!r} is no corpus; there are {', '.join(known)}" for name in names if name not in known
        ]
    return wrong


def _positional(words: list[str]) -> list[str]:
    """Words up to the first option: pages write those behind."""
    return words[: next((at for at, word in enumerate(words) if word.startswith("-")), len(words))]


def _wrong_in_benchmark(words: list[str]) -> list[str]:
    if not words or words[0] in ("list", "…") or _PLACEHOLDER.fullmatch(words[0]):
        return []
    file = ROOT / "benchmarks" / f"{words[0]}.py"
    if not file.is_file():
        return [f"bench {words[0]}: there is no benchmarks/{words[0]}.py"]
    source = file.read_text(encoding="utf-8")
    options = [word.partition("=")[0] for word in words[1:] if _OPTION.match(word)]
    return [f"bench {words[0]} has no option {name}" for name in options if f'"{name}"' not in source]


def _wrong_recipe(words: list[str]) -> list[str]:
    """Presets and settings of a training command are those of the family."""
    families = [word for word in _positional(words)[:1] if not _PLACEHOLDER.fullmatch(word) and word != "…"]
    if not families:
        return []
    values = list(pairwise(words))
    preset = next((value for name, value in values if name == "--preset"), "small")
    changes = [value for name, value in values if name == "--set" and "=" in value]
    if _PLACEHOLDER.fullmatch(preset):
        return []
    try:
        load_recipe(families[0], preset, changes)
    except UserError as error:
        return [str(error)]
    return []


def wrong_calls(page: Page) -> list[str]:
    return [
        f"{PROGRAM} {' '.join(words)}: {wrong}"
        for code in page.code
        for words in calls(code)
        for wrong in wrong_in_call(words)
    ]


def missing_targets(page: Page) -> list[str]:
    targets = set(_TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8")))
    return [
        f"make {word}"
        for code in page.code
        for words in simple_commands(code)
        if words and words[0] == "make"
        for word in words[1:]
        if re.fullmatch(r"[a-z][a-z0-9-]*", word) and word not in targets
    ]


@pytest.fixture(params=PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def page(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    wrong = broken_links(page.read_text(encoding="utf-8"), page)
    assert not wrong, "\n".join(wrong)


def test_every_file_that_a_page_names_exists(page: Path) -> None:
    wrong = missing_paths(page.read_text(encoding="utf-8"), page)
    assert not wrong, "\n".join(wrong)


def test_every_command_of_a_page_has_a_verb_and_options_that_exist(page: Path) -> None:
    wrong = wrong_calls(taken_apart(page.read_text(encoding="utf-8")))
    assert not wrong, "\n".join(wrong)


def test_every_make_target_of_a_page_exists(page: Path) -> None:
    wrong = missing_targets(taken_apart(page.read_text(encoding="utf-8")))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("ancestor", ["Namegens", "SoulsGen", "NumPy char-RNN", "Story GRU", "Char-LSTM"])
def test_every_promise_of_an_ancestor_is_numbered_and_judged(ancestor: str) -> None:
    text = (ROOT / "docs" / "systems.md").read_text(encoding="utf-8")
    section = text.partition(f"\n## {ancestor}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if re.match(r"\| \d+ \|", line)]
    many = {"Namegens": 46, "SoulsGen": 71, "NumPy char-RNN": 40, "Story GRU": 63, "Char-LSTM": 36}
    assert [int(row[0]) for row in rows] == list(range(1, many[ancestor] + 1))
    for row in rows:
        assert len(row) == 4, row
        assert re.match(r"\*\*(yes|better|partly|not yet|out)\*\*", row[2]), row
        assert row[3].strip(), row
    judged = [row[2].split("**")[1] for row in rows]
    counts = [len(rows), *(judged.count(word) for word in ("yes", "better", "partly", "not yet", "out"))]
    assert f"| [{ancestor}](#{slug(ancestor)}) | {' | '.join(map(str, counts))} |" in text


def test_pages_are_taken_apart_into_sentences_spans_and_blocks() -> None:
    page = taken_apart("Say `make x` or ``a ` b``.\n\n```sh\nmake y\n```\n\n~~~\nmake z\n~~~\nEnd.\n")
    assert page.spans == ["make x", "a ` b"]
    assert page.blocks == ["make y\n", "make z\n"]
    assert "make" not in page.prose
    assert "End." in page.prose


def test_commands_are_found_behind_prompts_variables_pipes_and_line_ends() -> None:
    code = "$ A=1 inkwell train prose \\\n  --preset paper  # not --this\nx | .venv/bin/inkwell stop && ls\n"
    assert list(calls(code)) == [["train", "prose", "--preset", "paper"], ["stop"]]
    assert list(calls("torchrun --n 2 -m training train souls")) == [["train", "souls"]]
    assert list(calls("text about inkwell train, and inkwell/engine.py")) == []
    assert list(calls('inkwell generate x "it\'s" -n 2')) == [["generate", "x", "it's", "-n", "2"]]


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        ("trane prose", "no verb"),
        ("train prose --presets paper", "no option --presets"),
        ("train prose --preset papr", "preset is 'papr'"),
        ("train prose --set fit.stps=3", "stps"),
        ("train prosa", "family is 'prosa'"),
        ("post history --model x", "no option --model"),
        ("data bild x", "is no command"),
        ("data fetch nobody", "is no corpus"),
        ("bench nothing", "no benchmarks/nothing.py"),
        ("bench engine --nothing", "no option --nothing"),
    ],
)
def test_a_wrong_command_is_noticed(call: str, complaint: str) -> None:
    found = wrong_calls(taken_apart(f"```\ninkwell {call}\n```\n"))
    assert len(found) == 1
    assert complaint in found[0]


@pytest.mark.parametrize(
    "call",
    [
        "train prose --set fit.steps=3000 --set model.hidden=512",
        "train FAMILY --preset NAME",
        "data fetch anna psammead --mirror ~/corpora",
        "data list",
        "post --model souls --dry-run",
        "post history --to mastodon",
        "bench engine --only lstm",
        "generate names -n 10 --category=Elf",
        "VERB --help",
    ],
)
def test_a_right_command_is_left_alone(call: str) -> None:
    assert wrong_calls(taken_apart(f"Run `inkwell {call}`.")) == []


def test_a_missing_target_is_noticed() -> None:
    assert missing_targets(taken_apart("`make help`, `make serve ARGS=-v`, `make trouble`")) == [
        "make trouble"
    ]


def test_missing_files_links_and_headings_are_noticed() -> None:
    page = ROOT / "docs" / "page.md"
    text = (
        "# Top\n[a](../README.md) [b](gone.md) [c](#top) [d](#gone) [e](https://x.y/z)\n"
        "```\n[f](not-a-link.md)\n```\n"
    )
    assert broken_links(text, page) == ["gone.md: no such file", "#gone: no such heading"]
    named = "`inkwell/engine.py`, inkwell/gone.py, training/presets/FAMILY.toml, training/presets/GONE.ini, x/y.py"
    assert missing_paths(named, page) == ["inkwell/gone.py", "training/presets/GONE.ini", "x/y.py"]
    assert missing_paths("https://a.b/inkwell/gone.py, /opt/inkwell/gone, `bundles/NAME`", page) == []
