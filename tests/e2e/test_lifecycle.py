"""Starting, stopping, and what `inkwell serve` says when it cannot start."""

from __future__ import annotations

import json
import zipfile
from hashlib import sha256

import httpx
import pytest

from deploy.ports import free_run

pytestmark = pytest.mark.e2e
ASK = {"seed": 11, "max_new_tokens": 200}


def test_ctrl_c_and_stop_leave_no_process_and_a_restart_gives_the_same_bytes(own_stack, stack):
    expected = stack.generate("The lantern", **ASK)["generated_text"]

    own_stack.start()
    own_stack.wait(lambda: "stop " in own_stack.printed, "it says how to stop it")
    assert f"Inkwell is ready at {own_stack.url}" in own_stack.printed
    assert "curl -s" in own_stack.printed
    assert own_stack.generate("The lantern", **ASK)["generated_text"] == expected
    assert own_stack.interrupt() == 0
    assert own_stack.remains() == []
    assert "no process is left" in own_stack.printed
    with pytest.raises(httpx.ConnectError):
        own_stack.generate("The lantern")

    own_stack.start()
    assert own_stack.generate("The lantern", **ASK)["generated_text"] == expected
    second = own_stack.inkwell("serve", "--port", own_stack.port)
    assert second.returncode == 3
    assert "already runs" in second.stderr
    stopped = own_stack.inkwell("stop")
    assert stopped.returncode == 0, stopped.stderr
    assert "no process is left" in stopped.stdout
    assert own_stack.process.wait(30) == 0
    assert own_stack.remains() == []
    assert not (own_stack.folder / "run" / "inkwell.json").exists()
    again = own_stack.inkwell("stop")
    assert again.returncode == 0
    assert "Nothing runs" in again.stdout


def test_a_taken_port_is_named_with_its_holder_and_the_way_out(own_stack, stack):
    done = own_stack.inkwell("serve", "--port", stack.port)
    assert done.returncode == 4
    assert f"port {stack.port} (gateway) is taken by process" in done.stderr
    assert "--port" in done.stderr
    done = own_stack.inkwell("serve", "--port", free_run(1), "--worker-port", stack.worker_port)
    assert done.returncode == 4
    assert f"port {stack.worker_port} (TorchServe inference) is taken" in done.stderr
    assert "--worker-port" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_changed_archive_is_refused(own_stack):
    with (own_stack.folder / "model_store" / "prose.mar").open("ab") as file:
        file.write(b"x")
    done = own_stack.inkwell("serve")
    assert done.returncode == 7
    assert "prose.mar: has changed since it was built" in done.stderr


def test_a_model_that_cannot_be_loaded_is_named_with_the_true_cause(own_stack):
    path = own_stack.folder / "model_store" / "prose.mar"
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files["bundle/weights.safetensors"] = files["bundle/weights.safetensors"][:-400]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    index = path.parent / "index.json"
    listed = json.loads(index.read_text())
    listed["archives"]["prose.mar"]["sha256"] = sha256(path.read_bytes()).hexdigest()
    index.write_text(json.dumps(listed))

    with pytest.raises(AssertionError, match="does not load"):
        own_stack.start()
    assert own_stack.process.wait(30) == 8
    assert "the model 'prose' does not load" in own_stack.printed
    assert "weights.safetensors cannot be read" in own_stack.printed
    assert "inkwell archive prose" in own_stack.printed
    assert "Traceback" not in own_stack.printed
    assert not (own_stack.folder / "run" / "inkwell.json").exists()
    assert own_stack.remains() == []
