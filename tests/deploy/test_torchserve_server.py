from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from deploy import store
from deploy import torchserve_server as ts
from deploy.java import Java

CONFIGURATION = Path(ts.__file__).parent / "torchserve"


def properties(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_configuration_binds_everything_to_the_host_and_closes_the_doors(tmp_path: Path) -> None:
    folders = {"prose": ["prose", "prose.w2"], "names": ["names"]}
    text = ts.render_config("127.0.0.1", ts.Ports(18080), tmp_path, folders, gpus=2)
    found = properties(text)
    assert "$" not in text
    assert [found[f"{name}_address"] for name in ("inference", "management", "metrics")] == [
        f"http://127.0.0.1:{port}" for port in (18080, 18081, 18082)
    ]
    assert (found["grpc_inference_address"], found["grpc_inference_port"]) == ("127.0.0.1", "18083")
    assert (found["grpc_management_address"], found["grpc_management_port"]) == ("127.0.0.1", "18084")
    assert found["load_models"] == "prose=prose,prose=prose.w2,names=names"
    assert found["allowed_urls"] == f"file://{tmp_path}/.*"
    assert found["number_of_gpu"] == "2"
    closed = ("enable_model_api", "install_py_dep_per_model", "use_env_allowed_urls", "enable_envvars_config")
    assert [found[name] for name in closed] == ["false"] * 4
    assert found["metrics_mode"] == "prometheus"


def test_front_end_logs_warnings_only() -> None:
    loggers = {
        e.get("name"): e.get("level") for e in ElementTree.parse(CONFIGURATION / "log4j2.xml").iter("Logger")
    }
    assert loggers["org.pytorch.serve"] == "warn"
    assert loggers["ACCESS_LOG"] == "off"
    assert loggers["MODEL_LOG"] == "info"


def test_command_starts_the_jvm_with_this_python_and_a_scratch_folder(tmp_path: Path) -> None:
    command = ts.command(Java(Path("/j/bin/java"), 17), tmp_path / "c", tmp_path, tmp_path / "s")
    assert command[0] == "/j/bin/java"
    assert f"-Djava.io.tmpdir={tmp_path / 's'}" in command
    classes = command[command.index("-cp") + 1]
    assert list(Path(classes).parent.glob("*.jar"))


LOG = """\
2026-01-01T10:00:00,000 [INFO ] W-9000-prose_1.0-stdout MODEL_LOG - Torch worker started.
2026-01-01T10:00:01,000 [INFO ] W-9001-prose_x_1.0-stdout MODEL_LOG - Backend worker process died.
2026-01-01T10:00:01,000 [INFO ] W-9000-prose_1.0-w2-stdout MODEL_LOG - Backend worker process died.
2026-01-01T10:00:01,000 [INFO ] W-9000-prose_1.0-stdout MODEL_LOG - Backend worker process died.
2026-01-01T10:00:01,000 [INFO ] W-9000-prose_1.0-stdout MODEL_LOG - Traceback (most recent call last):
2026-01-01T10:00:01,000 [INFO ] W-9000-prose_1.0-stdout MODEL_LOG -   File "x.py", line 3, in initialize
2026-01-01T10:00:01,000 [INFO ] W-9000-prose_1.0-stdout MODEL_LOG - safetensors.SafetensorError: header too large
2026-01-01T10:00:02,000 [WARN ] W-9000-prose_1.0-stderr MODEL_LOG - goodbye
2026-01-01T10:00:02,000 [INFO ] W-9001-prose_x_1.0-stdout MODEL_LOG - ValueError: of another model
"""


def test_deaths_and_cause_are_read_from_the_workers_own_lines(tmp_path: Path) -> None:
    (tmp_path / "model_log.log").write_text(LOG)
    assert ts.deaths(tmp_path, "prose", "1.0") == 2
    assert ts.deaths(tmp_path, "prose_x", "1.0") == 1
    assert ts.deaths(tmp_path, "names", "1.0") == 0
    assert ts.cause(tmp_path, tmp_path, "prose", "1.0") == "safetensors.SafetensorError: header too large"
    assert ts.cause(tmp_path, tmp_path, "names", "1.0") == "it printed nothing"


def test_masked_import_error_is_unmasked(tmp_path: Path, archives: Any) -> None:
    mar = archives.build("prose", "import no_such_package\n\ndef handle(data, context): return data\n")
    archives.index()
    archive = store.verify(mar.parent, store.read_index(mar.parent), mar.name, "prose")
    store.unpack(archive, tmp_path / "run", [""])
    (tmp_path / "model_log.log").write_text(
        "2026-01-01T10:00:01,000 [INFO ] W-9000-prose_1.0-stdout MODEL_LOG - "
        "ModuleNotFoundError: No module named 'ts.torch_handler.prose_handler'\n"
    )
    found = ts.cause(tmp_path, tmp_path / "run" / "prose", "prose", "1.0")
    assert found == "ModuleNotFoundError: No module named 'no_such_package'"


def test_refused_registration_is_found_for_the_right_model(tmp_path: Path) -> None:
    (tmp_path / "ts_log.log").write_text(
        "2026 [WARN ] main org.pytorch.serve.ModelServer - Failed to load model: prose.w2\n"
        "org.pytorch.serve.archive.model.InvalidModelException: Runtime is not defined or invalid.\n"
    )
    reason = ts.registration_error(tmp_path, "prose")
    assert (
        reason == "org.pytorch.serve.archive.model.InvalidModelException: Runtime is not defined or invalid."
    )
    assert ts.registration_error(tmp_path, "pros") is None


def test_logs_of_the_run_before_are_set_aside(tmp_path: Path) -> None:
    (tmp_path / "model_log.log").write_text(LOG)
    ts.set_aside_logs(tmp_path)
    assert ts.deaths(tmp_path, "prose", "1.0") == 0
    assert (tmp_path / "model_log.previous").read_text() == LOG
    assert ts.tail(tmp_path / "model_log.previous", 1).endswith("of another model")
