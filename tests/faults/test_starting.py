"""Workers that never become ready, that die again and again, and archives that are not what they should be."""

from __future__ import annotations

import json
import time
import zipfile
from pathlib import Path

import httpx
import pytest
from fault_clients import Ask, all_at_once
from fault_stack import FaultStack, add_to_handler, e2e, until

from api.keys import make_key
from deploy.archives import sha256_of

pytestmark = pytest.mark.faults

SLEEPER = """
import time as _time


def _never(self, context):
    _time.sleep(3600)


ContinuousHandler.initialize = _never
"""


async def test_a_model_that_never_becomes_ready_is_named_and_nothing_is_left(stacks, folder, fault):
    row = fault("a worker that never becomes ready")
    add_to_handler(folder, "prose", SLEEPER)
    stack: FaultStack = stacks(startup_s=15, deadline_s=2)
    begun = time.monotonic()
    with pytest.raises(AssertionError, match="not ready after 15 s"):
        stack.start()
    row.recovery_s = time.monotonic() - begun
    row.notes["recovery"] = "until it said so and had ended everything"
    assert "prose has 0 of 1 workers ready" in stack.printed
    assert stack.process is not None
    assert stack.process.wait(30) != 0
    assert e2e.processes.marked(stack.run_id or "none") == []
    assert "Traceback" not in stack.printed


async def test_a_worker_that_crashes_again_and_again_harms_no_other_model_and_comes_back(
    stacks, folder, fault
):
    row = fault("a crash loop of one model's worker")
    stack: FaultStack = stacks(deadline_s=15, revive_after_s=5)
    stack.start()
    before = stack.retries()
    weights = folder / "run" / "store" / "prose" / "bundle" / "weights.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-400])
    stack.kill(stack.worker_pid())
    names = stack.asks(range(8), 20, model="names", inputs="A")
    doomed = Ask({"seed": 1, "max_new_tokens": 20}, None)
    outcomes = await all_at_once(stack.url, [*names, *[doomed] * 4])
    assert [o.kind for o in outcomes[:8]] == ["completed"] * 8, "the other model goes on"
    assert {o.kind for o in outcomes[8:]} <= {"failed", "refused"}, [o.detail for o in outcomes[8:]]
    assert all(o.seconds < 15 + 5 for o in outcomes[8:]), "each is answered by its deadline"
    assert not stack.ready()
    weights.write_bytes(kept)
    mended = time.monotonic()
    until(stack.ready, "the model is ready again once its file is whole")
    row.recovery_s = time.monotonic() - mended
    outcomes += await all_at_once(stack.url, stack.asks(range(20, 24), 20))
    assert [o.kind for o in outcomes[-4:]] == ["completed"] * 4
    row.count(outcomes).retried = stack.retries() - before


async def test_wrong_archives_are_refused_while_everything_else_goes_on(stacks, folder, fault):
    row = fault("wrong archives, registered while serving")
    token, line = make_key("admin", admin=True)
    (folder / "keys").write_text(line + "\n", encoding="utf-8")
    stack: FaultStack = stacks(key_file=folder / "keys")
    stack.start()
    headers = {"authorization": f"Bearer {token}"}
    store = folder / "model_store"

    def register(archive: str) -> httpx.Response:
        return httpx.post(
            f"{stack.url}/admin/models/prose/versions",
            json={"archive": archive},
            headers=headers,
            timeout=60,
        )

    (store / "strange.mar").write_bytes(b"not a zip file")
    list_as(store, "changed.mar", "0" * 64)
    (store / "changed.mar").write_bytes((store / "prose.mar").read_bytes())
    climbing = store / "climbing.mar"
    with zipfile.ZipFile(climbing, "w") as archive:
        archive.writestr("../outside.py", "raise SystemExit")
        manifest = {"model": {"modelName": "prose", "modelVersion": "2.0", "handler": "continuous.py"}}
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
    list_as(store, "climbing.mar", sha256_of(climbing))
    refusals = {name: register(name) for name in ("strange.mar", "changed.mar", "climbing.mar")}
    row.refused = len(refusals)
    row.notes["refusals"] = ", ".join(f"{name} {answer.status_code}" for name, answer in refusals.items())
    assert refusals["strange.mar"].status_code == 422, refusals["strange.mar"].text
    assert refusals["changed.mar"].status_code == 409
    assert "has changed since it was built" in refusals["changed.mar"].text
    assert refusals["climbing.mar"].status_code == 409
    assert "leads out of the archive" in refusals["climbing.mar"].text
    assert not list(folder.rglob("outside.py"))
    asked = stack.asks(range(6), 40)
    outcomes = await all_at_once(stack.url, asked, headers=headers)
    assert [o.detail for o in outcomes if o.kind != "completed"] == []
    row.count(outcomes)


def list_as(store: Path, archive: str, digest: str) -> None:
    index = json.loads((store / "index.json").read_text(encoding="utf-8"))
    index["archives"][archive] = {"sha256": digest, "model": "prose", "version": "2.0", "memory_mb": 100}
    (store / "index.json").write_text(json.dumps(index), encoding="utf-8")
