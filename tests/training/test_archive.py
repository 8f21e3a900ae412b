"""Archives: whole or not at all, listed by hash, and able to run with nothing but the worker's libraries."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import threading
import zipfile
from pathlib import Path

import pytest
import yaml

from deploy import models_file, store
from inkwell.bundle import load_bundle
from inkwell.session import TextEngine
from training import archive as archiving
from training.archive import archive, check_name
from training.errors import DataError, TrainingError, UserError

# torch-model-archiver leaves a file of its own open when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file .*model_archiver:ResourceWarning")
# With what they need in turn, but not huggingface_hub, which tokenizers needs only to download: it has half of
# this program's own libraries among its needs.
WORKER_LIBRARIES = ("torch", "numpy", "tokenizers", "safetensors")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`, hidden ones too."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def bundle(char_bundle, tmp_path):
    return Path(shutil.copytree(char_bundle, tmp_path / "bundles" / "prose"))


def test_an_archive_is_listed_with_the_hash_that_it_has(char_bundle, tmp_path):
    made = archive(char_bundle, tmp_path)
    assert made.path == tmp_path / "prose.mar"
    assert made.sha256 == hashlib.sha256(made.path.read_bytes()).hexdigest()
    assert made.size == made.path.stat().st_size
    index = json.loads((tmp_path / "index.json").read_text())
    assert index == {
        "archives": {
            "prose.mar": {
                "sha256": made.sha256,
                "model": "prose",
                "version": "1.0",
                "memory_mb": made.memory_mb,
            }
        }
    }
    assert sorted(os.listdir(tmp_path)) == ["index.json", "prose.mar"]


def test_serving_accepts_what_was_built(char_bundle, tmp_path):
    archive(char_bundle, tmp_path)
    checked = store.verify(tmp_path, store.read_index(tmp_path), "prose.mar", "prose")
    assert checked.manifest["model"]["modelName"] == "prose"


def test_the_archive_holds_packages_bundle_manifest_and_configuration(char_bundle, tmp_path):
    with zipfile.ZipFile(archive(char_bundle, tmp_path, slots=5).path) as mar:
        names = set(mar.namelist())
        manifest = json.loads(mar.read("MAR-INF/MANIFEST.json"))
        config = yaml.safe_load(mar.read("model-config.yaml"))
        assert mar.read("bundle/weights.safetensors") == (char_bundle / "weights.safetensors").read_bytes()
        assert mar.read("continuous.py") == mar.read("handlers/continuous.py")
    assert {"inkwell/engine.py", "inkwell/models/gpt.py", "handlers/posts.py", "bundle/words.txt"} <= names
    assert not any("__pycache__" in name or name.startswith("/") or ".." in name for name in names)
    # A loose file beside the packages could shadow a module of the standard library.
    loose = {name for name in names if name.endswith(".py") and "/" not in name}
    assert loose == {"continuous.py"}
    assert manifest["model"] == {
        "modelName": "prose",
        "modelVersion": "1.0",
        "handler": "continuous.py",
        "configFile": "model-config.yaml",
    }
    assert manifest["runtime"] == "python"
    assert config["continuousBatching"] is True
    assert config["minWorkers"] == config["maxWorkers"] == 1
    assert config["handler"] == {"slots": 5, "threads": 1}


def test_more_slots_are_expected_to_need_more_memory(gpt_bundle, tmp_path):
    few, many = archive(gpt_bundle, tmp_path, slots=1), archive(gpt_bundle, tmp_path, slots=100_000)
    assert few.memory_mb > 0
    assert many.memory_mb > few.memory_mb


def test_building_again_replaces_archive_and_line(bundle, tmp_path):
    first = archive(bundle, tmp_path / "store")
    (bundle / "words.txt").write_text("lantern\t3\n")
    second = archive(bundle, tmp_path / "store")
    assert second.sha256 != first.sha256
    index = json.loads((tmp_path / "store" / "index.json").read_text())
    assert index["archives"]["prose.mar"]["sha256"] == second.sha256


def test_other_archives_keep_their_lines(char_bundle, gpt_bundle, tmp_path):
    one, two = archive(gpt_bundle, tmp_path), archive(char_bundle, tmp_path)
    listed = json.loads((tmp_path / "index.json").read_text())["archives"]
    assert {name: line["sha256"] for name, line in listed.items()} == {
        "names.mar": one.sha256,
        "prose.mar": two.sha256,
    }


def test_builds_of_one_name_at_a_time_all_succeed_and_the_index_fits_the_last(
    char_bundle, gpt_bundle, tmp_path
):
    made, errors = [], []
    barrier = threading.Barrier(4)

    def build(folder):
        barrier.wait()
        try:
            made.append(archive(folder, tmp_path))
        except Exception as error:
            errors.append(error)

    threads = [
        threading.Thread(target=build, args=[f]) for f in (char_bundle, char_bundle, char_bundle, gpt_bundle)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(made) == 4
    index = store.read_index(tmp_path)
    for name in ("prose", "names"):
        store.verify(tmp_path, index, f"{name}.mar", name)
    assert sorted(os.listdir(tmp_path)) == ["index.json", "names.mar", "prose.mar"]


# Each of these calls is made somewhere on the way; a failure in any of them must leave what was there.
STEPS = {
    "copying the packages": (shutil, "copytree"),
    "copying the bundle": (shutil, "copy2"),
    "packing": (zipfile.ZipFile, "write"),
    "making it last": (os, "fsync"),
    "listing": (json, "dump"),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_full_disk_is_said_and_changes_nothing(bundle, tmp_path, monkeypatch, step):
    target = tmp_path / "store"
    archive(bundle, target)
    before = contents(target)
    (bundle / "words.txt").write_text("lantern\t3\n")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*STEPS[step], full)
    with pytest.raises(
        TrainingError, match=r"the disk of .*store is full; packing prose needs about \d+ MiB"
    ):
        archive(bundle, target)
    assert contents(target) == before
    assert not [p for p in target.iterdir() if p.is_dir()]


def test_a_disk_that_fills_up_among_many_copies_is_said_too(bundle, tmp_path, monkeypatch):
    def full(*_, **__):
        raise shutil.Error([("a", "b", f"[Errno {errno.ENOSPC}] {os.strerror(errno.ENOSPC)}")])

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(TrainingError, match="is full"):
        archive(bundle, tmp_path / "store")


def test_a_failure_of_another_kind_changes_nothing_either(bundle, tmp_path, monkeypatch):
    target = tmp_path / "store"
    archive(bundle, target)
    before = contents(target)
    monkeypatch.setattr(archiving, "_sha256", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        archive(bundle, target)
    assert contents(target) == before


def test_a_store_that_is_no_folder_is_an_error_without_a_traceback(char_bundle, tmp_path):
    (tmp_path / "store").write_text("")
    with pytest.raises(TrainingError, match="store: File exists"):
        archive(char_bundle, tmp_path / "store")


def test_a_damaged_index_stops_the_build_before_anything_changes(char_bundle, gpt_bundle, tmp_path):
    archive(char_bundle, tmp_path)
    (tmp_path / "index.json").write_text('{"archives": [')
    before = contents(tmp_path)
    with pytest.raises(DataError, match=r"index\.json is damaged"):
        archive(gpt_bundle, tmp_path)
    assert contents(tmp_path) == before


def test_a_damaged_bundle_is_named(bundle, tmp_path):
    (bundle / "weights.safetensors").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"weights\.safetensors cannot be read.*Train it again"):
        archive(bundle, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_program_without_its_packages_says_so(char_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(archiving.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TrainingError, match="package 'inkwell' is not installed"):
        archive(char_bundle, tmp_path)


def test_a_bundle_name_cannot_lead_out_of_the_store(bundle, tmp_path):
    config = json.loads((bundle / "config.json").read_text())
    (bundle / "config.json").write_text(json.dumps({**config, "name": "../../prose"}))
    with pytest.raises(UserError, match=r"model name is '\.\./\.\./prose'"):
        archive(bundle, tmp_path / "a" / "store")
    assert not list(tmp_path.rglob("*.mar"))


@pytest.mark.parametrize(
    "name", ["prose", "p", "0-a_b", "a" * 63, "a" * 64, "", "Prose", "-a", "a.b", "a/b", "ä", "a b", "a\n"]
)
def test_names_are_allowed_exactly_where_models_toml_allows_them(name):
    try:
        models_file.loads(f'[models.{json.dumps(name)}]\nfamily = "prose"')
        allowed = True
    except models_file.ModelsFileError:
        allowed = False
    if allowed:
        check_name(name)
    else:
        with pytest.raises(UserError, match="model name is"):
            check_name(name)


# The unpacked archive alone

RUN_ALONE = '''
import importlib.abc, importlib.metadata, json, re, sys

archive, site, libraries, jobs = sys.argv[1], sys.argv[2], sys.argv[3].split(","), json.loads(sys.argv[4])
sys.path[:0] = [archive]
sys.path.append(site)

def names(distribution):
    """Top-level modules that a distribution installs."""
    files = importlib.metadata.distribution(distribution).files or []
    return {file.parts[0].split(".")[0] for file in files}

def closure(wanted):
    """Distributions that `wanted` need, without extras."""
    found, todo = set(), list(wanted)
    while todo:
        name = todo.pop()
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        if name not in found and name != "huggingface-hub":
            found.add(name)
            todo += [re.match(r"[\\w.-]+", r)[0] for r in requirements if "extra ==" not in r]
    return found

allowed = set().union(*map(names, closure(libraries))) | set(sys.stdlib_module_names)
allowed |= {"inkwell", "handlers", "continuous"}

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in allowed:
            raise ModuleNotFoundError(f"a worker does not have {name}", name=name)
        return None

sys.meta_path.insert(0, Refuse())
for module in ("ts", "yaml", "httpx", "pydantic", "training", "deploy"):
    try:
        __import__(module)
    except ImportError:
        continue
    raise SystemExit(f"{module} should be out of reach")

import continuous, inkwell
assert inkwell.__file__.startswith(archive), inkwell.__file__
assert continuous.__file__.startswith(archive), continuous.__file__

class Context:
    system_properties = {"model_dir": archive, "gpu_id": None}
    model_yaml_config = {"handler": {"slots": 4, "threads": 1}}
    def set_response_content_type(self, index, value):
        pass

handler, context = continuous.ContinuousHandler(), Context()
handler.initialize(context)
live = {str(n): {"body": job} for n, job in enumerate(jobs)}
answers = dict.fromkeys(live, b"")
while live:
    context.request_ids = dict(enumerate(live))
    chunks = handler.handle(list(live.values()), context)
    for name, chunk, more in zip(list(live), chunks, context.stopping_criteria):
        answers[name] += chunk
        if more(chunk) is not False:
            del live[name]
print(json.dumps([json.loads(answer) for answer in answers.values()]))
'''


@pytest.mark.parametrize("which", ["char_bundle", "bpe_bundle", "gpt_bundle"])
def test_the_unpacked_archive_runs_with_nothing_but_the_workers_libraries(which, request, tmp_path):
    folder = request.getfixturevalue(which)
    with zipfile.ZipFile(archive(folder, tmp_path / "store").path) as mar:
        mar.extractall(tmp_path / "unpacked")
    jobs = [{"prompt": "The lantern", "seed": seed, "max_new_tokens": 20 + seed} for seed in range(6)]
    # Shapes of texts need the constraints, which are imported late.
    jobs.append({"prompt": "The", "seed": 3, "max_new_tokens": 30, "max_chars": 12, "starts_with": "b"})
    arguments = [
        tmp_path / "unpacked",
        sysconfig.get_paths()["purelib"],
        ",".join(WORKER_LIBRARIES),
        json.dumps(jobs),
    ]
    done = subprocess.run(
        # -I: no PYTHON* variables and no current folder; -S: no site-packages, hence no .pth files either
        [sys.executable, "-I", "-S", "-c", RUN_ALONE, *map(str, arguments)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    engine = TextEngine(load_bundle(folder), slots=1)
    local = [next(e["text"] for e in engine.generate(job) if e["event"] == "end") for job in jobs]
    assert [answer["generated_text"] for answer in json.loads(done.stdout)] == local
    assert any(local)
