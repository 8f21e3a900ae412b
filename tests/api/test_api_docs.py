"""`docs/api.md` cannot drift: its examples run, its routes and parameters are those that exist."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from api.main import create_app
from api.plan import REDRAW_STRIDE
from api.settings import Settings

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
DOCUMENT = create_app(Settings()).openapi()


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_runs_as_it_stands(keyed, worker, example):
    base, token = keyed
    worker.copies = lambda _: {"verdict": "novel", "exact_copy": False, "longest": 2, "ratio": 0.0}
    refused = re.match(r"# refused: (\d+)\n", example)
    script = f"""
set -e
curl() {{ command curl --fail-with-body -H "authorization: Bearer $KEY" "$@"; echo; }}
{example.replace("http://127.0.0.1:8000", base)}
"""
    done = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "KEY": token},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if refused is not None:
        assert done.returncode == 22, done.stdout
        assert json.loads(done.stdout)["error_type"] == "validation"
        return
    assert done.returncode == 0, done.stdout + done.stderr
    if "/metrics" not in example and "-sN" not in example:
        for line in done.stdout.splitlines():
            assert "error" not in json.loads(line)
    elif "-sN" in example:
        assert '"error"' not in done.stdout
        assert "data:" in done.stdout


def test_every_parameter_and_route_is_described():
    for schema in ("Parameters", "CompletionRequest", "GenerateRequest", "RegisterRequest", "RollRequest"):
        for name in DOCUMENT["components"]["schemas"][schema]["properties"]:
            assert re.search(rf"`{name}[`.]", TEXT), name
    for path in DOCUMENT["paths"]:
        plain = path.removeprefix("/m/{model}").replace("/v1/models/{name}", "/v1/models/")
        plain = plain.replace("/models/{name}", "/models/") if not path.startswith("/admin") else plain
        assert plain in TEXT, path


def test_every_setting_is_described():
    for name in Settings.model_fields:
        assert f"`INKWELL_{name.upper()}`" in TEXT, name
    known = {f"INKWELL_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"INKWELL_[A-Z_]+", TEXT)) <= known


def test_the_stride_of_seeds_is_the_one_documented():
    assert str(REDRAW_STRIDE) in TEXT
    assert REDRAW_STRIDE % 2 == 1


def test_documented_parameters_exist():
    known = {
        name for schema in DOCUMENT["components"]["schemas"].values() for name in schema.get("properties", {})
    }
    documented = set()
    for row in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", TEXT, re.MULTILINE):
        documented |= {name for name in re.findall(r"`(\w+)`", row) if not name.startswith("INKWELL_")}
    assert documented - known == set()
    assert len(documented) > 30
