"""README.md lists every package file with what the file says of itself."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def tree():
    spec = importlib.util.spec_from_file_location("docs_tree", ROOT / "docs" / "tree.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lines_of(page):
    return page.split("<!-- tree -->")[1].split("<!-- /tree -->")[0].strip().strip("`").strip().splitlines()


def test_the_readme_lists_every_package_file_and_no_other(tree):
    listed = [line.split()[0] for line in lines_of((ROOT / "README.md").read_text(encoding="utf-8"))]
    missing = {path.as_posix() for path in tree.files()} - set(listed)
    assert not missing, f"run `python docs/tree.py --write`; the tree in README.md lacks {sorted(missing)}"
    gone = set(listed) - {path.as_posix() for path in tree.files()}
    assert not gone, f"run `python docs/tree.py --write`; the tree in README.md still has {sorted(gone)}"
    assert len(listed) == len(set(listed))


def test_the_readme_says_of_each_file_what_the_file_says(tree):
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert tree.replaced(page) == page, "run `python docs/tree.py --write`"


def test_every_package_file_says_in_one_line_what_it_holds(tree):
    for path in tree.files():
        sentence = tree.first_sentence(ROOT / path)
        assert 10 <= len(sentence) <= 160, f"{path}: {sentence}"


def test_a_first_sentence_ends_where_the_next_one_begins(tree, tmp_path):
    file = tmp_path / "a.py"
    file.write_text('"""Reads `index.json`, e.g. after a build. Knows nothing else.\n\nMore.\n"""\n')
    assert tree.first_sentence(file) == "Reads `index.json`, e.g. after a build"
    file.write_text('"""One line that is\nbroken in two\n\nand a second paragraph."""\n')
    assert tree.first_sentence(file) == "One line that is broken in two"
    file.write_text("x = 1\n")
    with pytest.raises(ValueError, match="has no docstring"):
        tree.first_sentence(file)


def test_the_tree_is_written_between_its_marks_only(tree, tmp_path):
    for package in tree.PACKAGES:
        (tmp_path / package / "inner").mkdir(parents=True)
        (tmp_path / package / "__init__.py").write_text("")
        (tmp_path / package / "inner" / "b.py").write_text('"""Inner part."""\n')
        (tmp_path / package / "a.py").write_text('"""Outer part."""\n')
    page = tree.replaced("# Title\n<!-- tree -->old<!-- /tree -->\nrest <!-- x -->\n", tmp_path)
    assert page.startswith("# Title\n<!-- tree -->\n```\ninkwell/a.py")
    assert page.endswith("```\n<!-- /tree -->\nrest <!-- x -->\n")
    assert [line.split()[0] for line in lines_of(page)][:3] == [
        "inkwell/a.py",
        "inkwell/inner/b.py",
        "training/a.py",
    ]
    assert tree.replaced(page, tmp_path) == page
    with pytest.raises(ValueError, match="no <!-- tree -->"):
        tree.replaced("# Title\n", tmp_path)


def test_the_helper_needs_nothing_but_python():
    source = (ROOT / "docs" / "tree.py").read_text(encoding="utf-8")
    names = {
        line.split()[1].split(".")[0] for line in source.splitlines() if line.startswith(("import ", "from "))
    }
    assert names <= set(sys.stdlib_module_names)
