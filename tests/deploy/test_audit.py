"""What is pinned, what is hashed, and what an audit says of it."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from rich.console import Console

from deploy import audit

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]


def report(*dependencies: dict[str, Any]) -> audit.Audit:
    return audit.read({"dependencies": list(dependencies)})


def said(found: audit.Audit) -> tuple[int, str]:
    console = Console(file=io.StringIO(), width=400)
    code = audit.show(found, console)
    assert isinstance(console.file, io.StringIO)
    return code, console.file.getvalue()


def test_a_clean_report_says_how_much_was_looked_up() -> None:
    code, text = said(report({"name": "a", "version": "1", "vulns": []}))
    assert code == 0
    assert "1 of 1 pinned packages" in text


def test_a_known_weakness_is_shown_with_its_way_out_and_fails() -> None:
    weak = {"id": "CVE-1", "fix_versions": ["1.2"], "aliases": [], "description": ""}
    code, text = said(report({"name": "a", "version": "1.1", "vulns": [weak]}))
    assert code == 1
    for part in ("a", "1.1", "CVE-1", "1.2"):
        assert part in text


def test_a_registry_that_knows_nothing_is_not_taken_for_good_news() -> None:
    code, text = said(report({"name": "a", "skip_reason": "not found"}))
    assert code == 2
    assert "nothing was audited" in text
    assert "0 of 1" in text


def test_a_report_that_is_none_is_an_error() -> None:
    with pytest.raises(KeyError):
        audit.read({})


def locked() -> dict[str, set[str]]:
    """Name → versions of the hashed lock."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", lock(), re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


def lock() -> str:
    return (ROOT / "deploy" / "requirements.lock").read_text(encoding="utf-8")


def test_every_file_of_production_has_its_hash() -> None:
    blocks = re.split(r"^(?=[A-Za-z0-9])", lock().partition("\n")[2], flags=re.MULTILINE)
    blocks = [block for block in blocks if block.strip()]
    assert len(blocks) > 40
    for block in blocks:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block[:80]


def test_the_lock_and_the_pins_name_the_same_versions() -> None:
    pins: dict[str, set[str]] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, _, version = line.partition(";")[0].strip().partition("==")
            pins.setdefault(name, set()).add(version)
    wrong = {name: versions for name, versions in locked().items() if not versions <= pins.get(name, set())}
    assert wrong == {}, "run `make lock`"


def test_whatever_runs_in_production_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {Requirement(line).name.lower().replace("_", "-") for line in project["dependencies"]}
    assert wanted <= set(locked()), "run `make lock`"
