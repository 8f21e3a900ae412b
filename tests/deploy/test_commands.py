from __future__ import annotations

from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from deploy import commands, state
from deploy.state import State

MODELS = '[models.prose]\nfamily = "prose"\ngpus = 0.5\n[models.names]\nfamily = "names"\n'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "models.toml").write_text(MODELS)
    for name in ("MODELS_FILE", "MODEL_STORE", "RUN_DIR", "LOG_DIR", "HOST", "PORT", "WORKER_PORT"):
        monkeypatch.delenv(f"INKWELL_{name}", raising=False)
    monkeypatch.setenv("INKWELL_MODELS_FILE", str(tmp_path / "models.toml"))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def invoke(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    commands.register(app)
    result = CliRunner().invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("verb", ["serve", "stop", "plan"])
def test_help_shows_an_example(verb: str) -> None:
    code, output = invoke(verb, "--help")
    assert code == 0
    assert f"inkwell {verb}" in output


@pytest.mark.usefixtures("here")
def test_plan_for_a_machine_that_is_described() -> None:
    code, output = invoke("plan", "--gpus", "4", "--gpu-memory", "80G")
    assert code == 0
    assert "GPU 0" in output
    assert "77824" in output


@pytest.mark.usefixtures("here")
def test_plan_renders_one_models_configuration() -> None:
    code, output = invoke("plan", "--gpus", "1", "--render", "prose")
    assert code == 0
    assert yaml.safe_load(output)["deviceIds"] == [0]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (("plan", "--gpus", "99"), 2, "gpus = 99"),
        (("plan", "--gpus", "1", "--gpu-memory", "big"), 2, "gpu memory = 'big'"),
        (("plan", "--gpus", "1", "--render", "nose"), 2, "must be one of prose, names"),
        (("plan", "--models-file", "none.toml"), 2, "no such models file"),
        (("serve", "--port", "0"), 2, "port = 0"),
        (("serve", "--models", "nose"), 2, "model = 'nose'"),
        (("serve", "--models", ","), 2, "must name at least one"),
        (("serve",), 7, "index.json: is missing"),
    ],
)
def test_errors_have_a_sentence_and_an_exit_code(arguments: tuple[str, ...], code: int, named: str) -> None:
    from deploy.ports import free_run

    own = free_run(6)
    ports = ("--port", str(own), "--worker-port", str(own + 1))
    found, output = invoke(
        *arguments, *(ports if arguments[0] == "serve" and "--port" not in arguments else ())
    )
    assert found == code
    assert named in output
    assert "Traceback" not in output


@pytest.mark.usefixtures("here")
def test_impossible_plan_is_explained(here: Path) -> None:
    (here / "models.toml").write_text('[models.a]\nfamily = "x"\ngpus = 1\ncpu_workers = 0\n')
    code, output = invoke("plan", "--gpus", "0")
    assert code == 2
    assert "cpu_workers = 0 forbids the CPU" in output


@pytest.mark.usefixtures("here")
def test_stop_without_a_run_says_so() -> None:
    code, output = invoke("stop")
    assert code == 0
    assert "Nothing runs from run" in output


def test_stop_after_a_crash_cleans_up(here: Path) -> None:
    (here / "run").mkdir()
    (here / "scratch").mkdir()
    # A process id that belongs to someone else by now: the creation time tells them apart.
    State("no-such-run", pid=1, created=0.0, url="", scratch=str(here / "scratch")).save(here / "run")
    code, output = invoke("stop")
    assert code == 0
    assert "no process is left" in output
    assert state.load(here / "run") is None
    assert not (here / "scratch").exists()


def test_unreadable_state_counts_as_none(here: Path) -> None:
    (here / "run").mkdir()
    for text in ("", "{}", "[]", '{"run_id": 3, "what": 4}'):
        (here / "run" / state.FILE).write_text(text)
        assert state.load(here / "run") is None
