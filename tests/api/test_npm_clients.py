"""The npm clients `openai` and `@huggingface/inference`, unmodified: run by `make test-clients`."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.npm

HERE = Path(__file__).parent / "js"


@pytest.fixture(scope="module")
def contract(tmp_path_factory):
    """The script with its clients installed from the lock file, outside the working tree."""
    folder = tmp_path_factory.mktemp("npm")
    for name in ("package.json", "package-lock.json", "contract.mjs"):
        shutil.copy(HERE / name, folder)
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "contract.mjs"


@pytest.fixture
def seen(contract, base):
    done = subprocess.run(
        ["node", contract.name, base],
        cwd=contract.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_npm_clients_see_answers_streams_and_errors_as_their_own(seen, expected):
    assert seen["openai_completes"] == {
        "texts": [prompt + expected(prompt, seed, 6) for prompt in "ab" for seed in (4, 5)],
        "first": None,
        "usage": {"prompt_tokens": 2, "completion_tokens": 24, "total_tokens": 26},
    }
    assert seen["openai_streams"] == {
        "text": expected("abc", 4, 20),
        "usage": {"prompt_tokens": 3, "completion_tokens": 20, "total_tokens": 23},
        "reason": "length",
    }
    assert seen["openai_leaves_a_stream"] == {"seen": 1}
    assert seen["openai_lists_models"] == {"names": ["prose", "names"], "one": "names"}
    assert (seen["openai_bad_request"]["error"], seen["openai_bad_request"]["param"]) == (
        "BadRequestError",
        "temperature",
    )
    assert (seen["openai_unknown_model"]["error"], seen["openai_unknown_model"]["code"]) == (
        "NotFoundError",
        "model_not_found",
    )
    assert seen["openai_failed_generation"]["error"] == "InternalServerError"
    assert (seen["openai_bad_stream"]["error"], seen["openai_bad_stream"]["param"]) == (
        "BadRequestError",
        "max_tokens",
    )

    assert seen["hub_generates"] == seen["hub_streams"] == {"text": expected("abc", 4, 14)}
    for step in ("hub_bad_request", "hub_bad_stream"):
        assert seen[step]["error"] == "InferenceClientProviderApiError"
        assert seen[step]["status"] == 400
        assert seen[step]["body"]["error"]["param"] == "top_p"
    assert seen["hub_failed_generation"]["status"] == 500
    assert seen["hub_failed_generation"]["body"]["error"]["message"] == "this job failed"
