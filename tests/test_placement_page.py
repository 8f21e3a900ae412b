"""The plans shown in docs/placement.md are those that are made."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from training.cli import app

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def plans() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_plans", ROOT / "docs" / "plans.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_shows_the_plans_that_are_made(plans: ModuleType) -> None:
    page = (ROOT / "docs" / "placement.md").read_text(encoding="utf-8")
    assert plans.replaced(page) == page, "run `python docs/plans.py --write`"
    assert [f"--gpus {count} " in page for count in (0, 1, 2, 4, 8)] == [True] * 5
    with pytest.raises(ValueError, match="no <!-- plans -->"):
        plans.replaced("# Title\n")


def test_the_commands_of_the_page_print_what_it_shows(
    plans: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the last line of each table, which tells this machine's cores and memory."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "110")
    page = (ROOT / "docs" / "placement.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```\n\$ inkwell (.+?)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    for command, shown in blocks:
        answer = CliRunner().invoke(app, [*command.split(), "--model-store", str(tmp_path)])
        assert answer.exit_code == 0, answer.output
        printed, wanted = (
            [line.rstrip() for line in text.splitlines() if line.strip() and not line.startswith("CPU:")]
            for text in (answer.output, shown)
        )
        assert printed == wanted


def test_models_that_may_not_run_on_a_cpu_refuse_the_plan(plans: ModuleType, tmp_path: Path) -> None:
    models = tmp_path / "models.toml"
    models.write_text('[models.a]\nfamily = "prose"\ngpus = 1\ncpu_workers = 0\n', encoding="utf-8")
    answer = CliRunner().invoke(app, ["plan", "--gpus", "0", "--models-file", str(models)])
    assert answer.exit_code == 2
    assert "cpu_workers = 0 forbids the CPU" in answer.output
