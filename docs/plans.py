"""The plans of docs/placement.md: `python docs/plans.py` prints them, `--write` puts them into the page.

They are what `inkwell plan` shows for `deploy/models.gpu.toml` before any archive is built, on machines with 16
cores, 64 GiB and so many GPUs.
"""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from deploy.inventory import described
from deploy.models_file import load
from deploy.plan import PlanRefusedError, plan
from deploy.plan_views import explain

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "placement.md"
BEGIN, END = "<!-- plans -->", "<!-- /plans -->"
COUNTS = (0, 1, 2, 4, 8)


def shown(gpus: int) -> str:
    """What `inkwell plan --gpus N` prints, or why no plan is possible."""
    models = load(ROOT / "deploy" / "models.gpu.toml")
    # More GPUs than models want: what replicas are in a cluster, a count is on one machine.
    machine = replace(described(gpus, "80G"), cpus=16, memory_mb=65536)
    text = io.StringIO()
    console = Console(file=text, width=110, color_system=None, legacy_windows=False)
    try:
        console.print(explain(plan(models, machine, {})))
    except PlanRefusedError as error:
        console.print("no plan is possible:", *error.reasons, sep="\n")
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def block() -> str:
    """All plans between their marks."""
    parts = [BEGIN]
    for gpus in COUNTS:
        title = {0: "Without a GPU", 1: "One GPU"}.get(gpus, f"{gpus} GPUs")
        command = f"inkwell plan --gpus {gpus} --gpu-memory 80G --models-file deploy/models.gpu.toml"
        parts += ["", f"### {title}", "", "```", f"$ {command}", shown(gpus), "```"]
    return "\n".join([*parts, "", END])


def replaced(page: str) -> str:
    """`page` with the plans brought up to date. Raises ValueError for a page without marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} and {END}")
    return before + block() + after


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(block())
