"""`/admin` against a TorchServe management API that behaves as the real one does."""

from __future__ import annotations

import hashlib
import json
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from api.keys import make_key

TIMEOUT = 30


def write_archive(store, name, version, model="prose", **manifest):
    """An archive as the packer makes it, listed in the index."""
    described = {"modelName": model, "modelVersion": version, "handler": "handlers/continuous.py", **manifest}
    with zipfile.ZipFile(store / name, "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps({"model": described}))
        archive.writestr("model-config.yaml", "minWorkers: 1\n# of the archive\n")
        archive.writestr("bundle/weights.bin", version * 100)
    index = store / "index.json"
    listed = json.loads(index.read_text()) if index.exists() else {"archives": {}}
    digest = hashlib.sha256((store / name).read_bytes()).hexdigest()
    listed["archives"][name] = {"sha256": digest, "model": model, "version": version, "memory_mb": 1}
    index.write_text(json.dumps(listed))


class Admin:
    """A gateway with an admin key, its stores, and calls with that key."""

    def __init__(self, serve, worker, folder, **changes):
        self.client = httpx.Client(timeout=TIMEOUT)
        self.store, self.served, key_file = folder / "store", folder / "served", folder / "keys"
        self.store.mkdir()
        self.served.mkdir()
        (self.served / "prose").mkdir()
        (self.served / "prose" / "model-config.yaml").write_text("minWorkers: 1\n# as placed\n")
        worker.store = self.served
        write_archive(self.store, "prose-1.mar", "1.0")
        write_archive(self.store, "prose-2.mar", "2.0")
        self.token, line = make_key("root", admin=True)
        self.user_token, user_line = make_key("ada")
        key_file.write_text(f"{line}\n{user_line}\n")
        settings = {"model_store": self.store, "worker_store": self.served, "key_file": key_file}
        self.base = serve(**(settings | changes))
        self.pool = serve.gateway(self.base).worker.pool("prose")

    def __call__(self, method, path, body=None, token=None):
        headers = {"authorization": f"Bearer {token or self.token}"}
        return self.client.request(method, f"{self.base}/admin{path}", json=body, headers=headers)

    def generate(self, seed=1, tokens=9, model="prose"):
        body = {"inputs": "abc", "model": model, "parameters": {"seed": seed, "max_new_tokens": tokens}}
        headers = {"authorization": f"Bearer {self.user_token}"}
        return self.client.post(f"{self.base}/generate", json=body, headers=headers)


@pytest.fixture
def make_admin(serve, worker, tmp_path):
    """Start an `Admin` with changed settings."""
    made = []

    def make(**changes):
        made.append(Admin(serve, worker, tmp_path, **changes))
        return made[-1]

    yield make
    for one in made:
        one.client.close()


@pytest.fixture
def admin(make_admin):
    return make_admin()


def until(condition, what):
    give_up = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < give_up, what
        time.sleep(0.005)


def register(admin, archive="prose-2.mar", **more):
    response = admin("POST", "/models/prose/versions", {"archive": archive, **more})
    assert response.status_code == 200, response.text
    return response.json()


def test_only_an_admin_key_opens_the_admin_routes(admin, base):
    assert admin("GET", "/models").status_code == 200
    refused = admin("GET", "/models", token=admin.user_token)
    assert refused.status_code == 403
    assert refused.json()["error_type"] == "forbidden"
    assert httpx.get(admin.base + "/admin/models").status_code == 401
    assert httpx.post(admin.base + "/admin/reload").status_code == 401
    assert httpx.get(base + "/admin/models").status_code == 403, "without keys nobody is an administrator"


def test_releases_and_archives_are_listed(admin):
    listed = admin("GET", "/models").json()
    prose = next(model for model in listed["models"] if model["id"] == "prose")
    assert prose["versions"] == [
        {
            "version": "1.0", "default": True, "share": 1.0, "draining": False, "workers": 1, "ready": 1,
            "outstanding_tokens": 0, "dispatches": 0,
        }
    ]  # fmt: skip
    assert [entry["archive"] for entry in listed["archives"]] == ["prose-1.mar", "prose-2.mar"]
    assert admin("GET", "/models/nobody").status_code == 404


def test_a_registered_release_gets_nothing_until_it_is_the_default(admin, worker, expected):
    answer = register(admin, workers=2)
    assert answer["version"] == "2.0"
    assert list(worker.versions["prose"]) == ["1.0", "2.0", "2.0-w2"]
    assert admin.generate().json()["generated_text"] == expected("abc", 1, 9)
    assert admin("PUT", "/models/prose/versions/2.0/default").status_code == 200
    answer = admin.generate().json()
    assert answer["generated_text"] == expected("abc", 1, 9, release="2.0")
    assert answer["details"]["version"] == "2.0"
    assert worker.defaults["prose"] == "2.0"


def test_an_archive_is_unpacked_with_the_settings_of_the_worker_it_stands_beside(admin):
    register(admin, workers=2)
    second = admin.served / "prose.v2.0.w2"
    assert (second / "model-config.yaml").read_text().endswith("# as placed\n")
    manifest = json.loads((second / "MAR-INF" / "MANIFEST.json").read_text())
    assert manifest["model"]["modelVersion"] == "2.0-w2"
    assert (second / "bundle" / "weights.bin").read_text() == "2.0" * 100


@pytest.mark.parametrize(
    ("archive", "status", "words"),
    [
        ("../prose-2.mar", 422, "without folders"),
        ("http://evil.test/prose.mar", 422, "without folders"),
        ("prose-3.mar", 422, "must be one of prose-1.mar, prose-2.mar"),
        ("prose-1.mar", 409, "registered already"),
    ],
)
def test_only_listed_local_archives_are_taken(admin, worker, archive, status, words):
    response = admin("POST", "/models/prose/versions", {"archive": archive})
    assert response.status_code == status
    assert words in response.json()["error"]
    assert list(worker.versions["prose"]) == ["1.0"]


def test_an_archive_that_changed_is_not_registered(admin, worker):
    with (admin.store / "prose-2.mar").open("ab") as file:
        file.write(b"x")
    response = admin("POST", "/models/prose/versions", {"archive": "prose-2.mar"})
    assert response.status_code == 409
    assert "has changed since it was built" in response.json()["error"]
    assert list(worker.versions["prose"]) == ["1.0"]
    assert not (admin.served / "prose.v2.0.w1").exists()


def test_an_archive_of_another_model_is_not_registered(admin):
    write_archive(admin.store, "names-2.mar", "2.0", model="names")
    response = admin("POST", "/models/prose/versions", {"archive": "names-2.mar"})
    assert response.status_code == 422
    assert "holds 'names'" in response.json()["error"] or "holds the model" in response.json()["error"]


@pytest.mark.parametrize(
    "manifest", [{"handler": "../../evil.py"}, {"serializedFile": "/etc/passwd"}, {"modelName": "other"}]
)
def test_a_manifest_that_leads_out_is_not_registered(admin, manifest):
    write_archive(admin.store, "prose-4.mar", "4.0", **manifest)
    response = admin("POST", "/models/prose/versions", {"archive": "prose-4.mar"})
    assert response.status_code == 409
    assert "manifest" in response.json()["error"]


def test_an_archive_with_a_path_that_leads_out_is_not_unpacked(admin):
    path = admin.store / "prose-5.mar"
    write_archive(admin.store, path.name, "5.0")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../evil.txt", "x")
    index = json.loads((admin.store / "index.json").read_text())
    index["archives"][path.name]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (admin.store / "index.json").write_text(json.dumps(index))
    response = admin("POST", "/models/prose/versions", {"archive": path.name})
    assert response.status_code == 409
    assert "leads out of the archive" in response.json()["error"]


def test_a_release_whose_worker_does_not_start_leaves_nothing_behind(make_admin, worker, expected):
    admin = make_admin(register_s=0.3)
    worker.refuse_folder = "prose.v2.0.w2"
    response = admin("POST", "/models/prose/versions", {"archive": "prose-2.mar", "workers": 2})
    assert response.status_code == 424
    assert "no worker of version 2.0-w2 was ready after 0.3 s" in response.json()["error"]
    assert list(worker.versions["prose"]) == ["1.0"]
    assert sorted(path.name for path in admin.served.iterdir()) == ["prose"]
    assert admin.generate().json()["generated_text"] == expected("abc", 1, 9)


def test_a_model_api_that_is_off_is_named(admin, worker):
    worker.model_api = False
    response = admin("POST", "/models/prose/versions", {"archive": "prose-2.mar"})
    assert response.status_code == 424
    assert "enable_model_api" in response.json()["error"]


def test_without_a_store_of_the_workers_nothing_can_be_registered(make_admin):
    admin = make_admin(worker_store=None)
    response = admin("POST", "/models/prose/versions", {"archive": "prose-2.mar"})
    assert response.status_code == 409
    assert "worker_store" in response.json()["error"]


def test_weights_split_new_requests(admin, worker, expected):
    register(admin)
    answer = admin("PUT", "/models/prose/weights", {"weights": {"1.0": 1, "2.0": 3}})
    assert {v["version"]: v["share"] for v in answer.json()["versions"]} == {"1.0": 0.25, "2.0": 0.75}
    texts = {expected("abc", 1, 9): "1.0", expected("abc", 1, 9, release="2.0"): "2.0"}
    told = []
    for _ in range(60):
        body = admin.generate().json()
        assert texts[body["generated_text"]] == body["details"]["version"]
        told.append(body["details"]["version"])
    # Four standard deviations around 45 of 60.
    assert 31 <= told.count("2.0") <= 59
    page = httpx.get(admin.base + "/metrics").text
    assert 'inkwell_traffic_share{model="prose",release="2.0"} 0.75' in page
    admin("PUT", "/models/prose/weights", {"weights": {}})
    assert {admin.generate().json()["details"]["version"] for _ in range(5)} == {"1.0"}


@pytest.mark.parametrize(
    ("weights", "status", "words"),
    [
        ({"3.0": 1}, 404, "registered are: 1.0"),
        ({"1.0": 0}, 422, "one above 0"),
        ({"1.0": -1}, 422, "greater than or equal to 0"),
    ],
)
def test_weights_that_cannot_be_followed_are_refused(admin, weights, status, words):
    response = admin("PUT", "/models/prose/weights", {"weights": weights})
    assert response.status_code == status
    assert words in response.json()["error"]


def test_samples_of_one_request_come_from_one_release(admin):
    register(admin)
    admin("PUT", "/models/prose/weights", {"weights": {"1.0": 1, "2.0": 1}})
    body = {"inputs": "abc", "parameters": {"n": 8, "max_new_tokens": 2}}
    headers = {"authorization": f"Bearer {admin.user_token}"}
    seen = set()
    for _ in range(20):
        answers = admin.client.post(admin.base + "/generate", json=body, headers=headers).json()
        versions = {answer["details"]["version"] for answer in answers}
        assert len(versions) == 1
        seen |= versions
    assert seen == {"1.0", "2.0"}


def test_a_resumed_job_stays_with_its_release_after_the_default_has_moved(admin, worker, expected):
    register(admin)
    worker.interrupt_after.append(5)
    worker.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(admin.generate, 5, 20)
        until(lambda: worker.active, "it must be under way")
        admin("PUT", "/models/prose/versions/2.0/default")
        worker.gate.set()
        assert answer.result().json()["generated_text"] == expected("abc", 5, 20)
    assert [version for _, version in worker.served] == ["1.0", "1.0"]


def test_draining_waits_for_what_is_in_hand(admin, worker, expected):
    register(admin)
    worker.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        answer = pool.submit(admin.generate, 5, 20)
        until(lambda: worker.active, "it must be under way")
        admin("PUT", "/models/prose/versions/2.0/default")
        late = admin("POST", "/models/prose/versions/1.0/drain", {"timeout_s": 0.05})
        assert late.status_code == 409
        assert "still answers" in late.json()["error"]
        drained = pool.submit(admin, "DELETE", "/models/prose/versions/1.0")
        threading.Timer(0.1, worker.gate.set).start()
        assert answer.result().json()["generated_text"] == expected("abc", 5, 20)
        assert drained.result().status_code == 200
    assert list(worker.versions["prose"]) == ["2.0"]


def test_a_drained_release_can_be_let_in_again(admin):
    register(admin)
    admin("PUT", "/models/prose/weights", {"weights": {"2.0": 1}})
    assert admin("POST", "/models/prose/versions/2.0/drain", {}).status_code == 200
    assert admin.generate().json()["details"]["version"] == "1.0"
    assert admin("DELETE", "/models/prose/versions/2.0/drain").status_code == 200
    assert admin.generate().json()["details"]["version"] == "2.0"


def test_the_default_is_neither_drained_nor_unregistered(admin, worker):
    for method, path, body in (
        ("POST", "/models/prose/versions/1.0/drain", {}),
        ("DELETE", "/models/prose/versions/1.0", None),
    ):
        response = admin(method, path, body)
        assert response.status_code == 409
        assert "make another the default first" in response.json()["error"]
    assert list(worker.versions["prose"]) == ["1.0"]


def test_scaling_adds_and_takes_away_workers_as_versions(admin, worker):
    answer = admin("PUT", "/models/prose/versions/1.0/workers", {"workers": 3}).json()
    assert answer["versions"][0]["ready"] == 3
    assert list(worker.versions["prose"]) == ["1.0", "1.0-w2", "1.0-w3"]
    admin("PUT", "/models/prose/versions/1.0/workers", {"workers": 1})
    assert list(worker.versions["prose"]) == ["1.0"]
    assert [target.version for target in admin.pool.targets] == ["1.0"]


@pytest.mark.parametrize("workers", [1, 2])
def test_rolling_a_new_release_loses_no_request(admin, worker, expected, workers):
    worker.step_s = 0.002
    stop = threading.Event()
    outcomes = []

    def keep_asking(number):
        seed = number * 1000
        while not stop.is_set():
            seed += 1
            outcomes.append((seed, admin.generate(seed, 12)))

    def streamed(seed):
        body = {"inputs": "abc", "parameters": {"seed": seed, "max_new_tokens": 60}}
        headers = {"authorization": f"Bearer {admin.user_token}"}
        with httpx.stream(
            "POST", admin.base + "/generate_stream", json=body, headers=headers, timeout=TIMEOUT
        ) as response:
            return [json.loads(line[5:]) for line in response.iter_lines() if line][-1]

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(keep_asking, number) for number in range(4)]
        streams = [pool.submit(streamed, seed) for seed in range(3)]
        until(lambda: len(outcomes) > 10, "requests must flow")
        rolled = admin("POST", "/models/prose/roll", {"archive": "prose-2.mar", "workers": workers})
        done = len(outcomes)
        until(lambda: len(outcomes) > done + 10, "requests must flow on")
        stop.set()
        for one in running:
            one.result()
    assert rolled.status_code == 200, rolled.text
    assert rolled.json()["replaced"] == "1.0"
    assert list(worker.versions["prose"]) == ["2.0", "2.0-w2"][:workers]
    versions = []
    for seed, response in outcomes:
        body = response.json()
        assert response.status_code == 200, body
        versions.append(body["details"]["version"])
        assert body["generated_text"] == expected("abc", seed, 12, release=versions[-1])
    assert {"1.0", "2.0"} == set(versions)
    assert set(versions[-4:]) == {"2.0"}
    for seed, stream in enumerate(streams):
        last = stream.result()
        assert last["generated_text"] == expected("abc", seed, 60, release=last["details"]["version"])


def test_every_torchserve_of_a_model_is_rolled(make_admin, worker, second_worker):
    urls = [worker.url, second_worker.url]
    admin = make_admin(inference=urls, management=urls)
    second_worker.store = admin.served
    rolled = admin("POST", "/models/prose/roll", {"archive": "prose-2.mar"})
    assert rolled.status_code == 200, rolled.text
    assert list(worker.versions["prose"]) == list(second_worker.versions["prose"]) == ["2.0"]
    assert {admin.generate(seed).json()["details"]["version"] for seed in range(4)} == {"2.0"}


def test_a_release_withdrawn_behind_the_gateways_back_does_not_hold_up_fresh_work(admin, worker, expected):
    register(admin)
    admin("PUT", "/models/prose/weights", {"weights": {"2.0": 1}})
    assert admin.generate().json()["details"]["version"] == "2.0"
    del worker.versions["prose"]["2.0"]
    assert admin.generate().json()["generated_text"] == expected("abc", 1, 9)


def test_each_action_is_logged_with_its_caller_and_its_outcome(admin, capsys):
    register(admin)
    admin("DELETE", "/models/prose/versions/1.0")
    lines = [line for line in capsys.readouterr().out.splitlines() if "event='admin_" in line]
    asked = [line for line in lines if "admin_asked" in line]
    assert len(asked) == 2
    assert all("caller='root'" in line and "request_id=" in line for line in lines)
    assert any("admin_done" in line and "archive='prose-2.mar'" in line for line in lines)
    assert any("admin_refused" in line and "action='unregister'" in line for line in lines)
    page = httpx.get(admin.base + "/metrics").text
    assert 'inkwell_admin_total{action="register",outcome="done"} 1.0' in page
    assert 'inkwell_admin_total{action="unregister",outcome="refused"} 1.0' in page


def test_the_models_file_is_read_again(make_admin, tmp_path, expected):
    models = tmp_path / "models.toml"
    models.write_text('[models.prose]\nfamily = "prose"\nmax_new_tokens = 20\n')
    admin = make_admin(models_file=models)
    assert admin.generate(tokens=30).status_code == 422
    assert admin.generate(model="names").status_code == 404
    models.write_text(
        '[models.prose]\nfamily = "prose"\nmax_new_tokens = 40\n[models.names]\nfamily = "names"\n'
    )
    assert admin("POST", "/reload").json() == {"added": ["names"], "removed": [], "changed": ["prose"]}
    assert admin.generate(tokens=30).status_code == 200
    assert admin.generate(model="names").json()["generated_text"] == expected("abc", 1, 9)


def test_a_model_that_leaves_the_file_finishes_what_it_has(make_admin, worker, tmp_path, expected):
    models = tmp_path / "models.toml"
    both = '[models.prose]\nfamily = "prose"\n[models.names]\nfamily = "names"\n'
    models.write_text(both)
    admin = make_admin(models_file=models)
    worker.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(admin.generate, 1, 9, "names")
        until(lambda: worker.active, "it must be under way")
        models.write_text('[models.prose]\nfamily = "prose"\n')
        assert admin("POST", "/reload").json()["removed"] == ["names"]
        assert admin.generate(model="names").status_code == 404
        worker.gate.set()
        assert answer.result().json()["generated_text"] == expected("abc", 1, 9)


def test_a_models_file_that_is_wrong_changes_nothing(make_admin, tmp_path):
    models = tmp_path / "models.toml"
    models.write_text('[models.prose]\nfamily = "prose"\n')
    admin = make_admin(models_file=models)
    models.write_text("[models.prose]\nfamily = 5\n")
    response = admin("POST", "/reload")
    assert response.status_code == 422
    assert "models.prose.family" in response.json()["error"]
    assert admin.generate().status_code == 200
