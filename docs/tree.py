"""The tree of all package files, one line each: `python docs/tree.py` prints it, `--write` puts it into README.md.

The line of a file is the first sentence of its docstring. A file without content has no line.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("inkwell", "training", "handlers", "api", "deploy")
BEGIN, END = "<!-- tree -->", "<!-- /tree -->"


def files(root: Path = ROOT) -> list[Path]:
    """Every Python file of the packages that holds anything, a package's own before its folders."""
    found = [
        path.relative_to(root)
        for package in PACKAGES
        for path in (root / package).rglob("*.py")
        if path.read_text(encoding="utf-8").strip()
    ]
    return sorted(found, key=lambda path: (PACKAGES.index(path.parts[0]), path.parent.parts, path.name))


def first_sentence(path: Path) -> str:
    """What the file says of itself, without the full stop. Raises ValueError for a file without a docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not text or not text.strip():
        raise ValueError(f"{path}: has no docstring")
    paragraph = " ".join(re.split(r"\n\s*\n", text.strip())[0].split())
    # A sentence ends before a capital; "e.g. this" and "index.json" do not end one.
    return re.split(r"(?<=[.!?])\s+(?=[A-Z`(])", paragraph)[0].rstrip(".:")


def block(root: Path = ROOT) -> str:
    """The tree between its marks, as it stands in README.md."""
    named = {path.as_posix(): first_sentence(root / path) for path in files(root)}
    width = max(map(len, named))
    lines = [f"{name:{width}}  {sentence}" for name, sentence in named.items()]
    return "\n".join([BEGIN, "```", *lines, "```", END])


def replaced(page: str, root: Path = ROOT) -> str:
    """`page` with the tree between its marks brought up to date. Raises ValueError for a page without marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} and {END}")
    return before + block(root) + after


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        readme = ROOT / "README.md"
        readme.write_text(replaced(readme.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(block())
