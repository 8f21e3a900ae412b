"""From models files to manifests: groups, the folder in the repository, the program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.k8s import commands, gateway
from deploy.k8s.cluster import Cluster, environment_of
from deploy.k8s.groups import GroupError, groups, slug
from deploy.k8s.parts import Options
from deploy.k8s.quantities import quantity
from deploy.k8s.tree import differences, render, write
from deploy.models_file import ModelsFile, load, loads

ROOT = Path(__file__).resolve().parents[3]
ONE = loads('[models.prose]\nfamily = "prose"')


def file_of(**models: str) -> ModelsFile:
    return loads("\n".join(f'[models.{name}]\nfamily = "prose"\n{text}' for name, text in models.items()))


def test_manifests_in_the_repository_are_those_that_are_rendered() -> None:
    assert differences(commands.shipped().texts(), ROOT / "deploy/k8s") == []


def test_both_models_files_hold_the_same_models() -> None:
    cpu, gpu = (load(ROOT / "deploy" / name) for name in ("models.toml", "models.gpu.toml"))
    assert list(cpu.models) == list(gpu.models)
    assert cpu.default_model == gpu.default_model
    for name, entry in cpu.models.items():
        other = gpu.models[name]
        assert (entry.family, entry.preset, entry.archive, entry.max_new_tokens) == (
            other.family, other.preset, other.archive, other.max_new_tokens,
        )  # fmt: skip
    assert any(entry.gpus for entry in gpu.models.values())
    assert not any(entry.gpus for entry in cpu.models.values())


def test_every_model_has_a_group_of_its_own_on_cpus() -> None:
    made = groups(file_of(a="gpus = 0.5", b="gpus = 2", c=""), use_gpus=False)
    assert [(group.name, group.gpus) for group in made] == [("a", 0), ("b", 0), ("c", 0)]


def test_fractions_share_pods_and_whole_gpus_do_not() -> None:
    made = groups(
        file_of(
            a="gpus = 0.5", b="gpus = 2", c="", d="gpus = 0.5", e="gpus = 0.4", f="gpus = 0.1\nreplicas = 3"
        ),
        use_gpus=True,
    )
    assert {group.name: ([entry.name for entry in group.models], group.gpus) for group in made} == {
        "b": (["b"], 2),
        "c": (["c"], 0),
        "shared-1": (["a", "d"], 1),
        "shared-2": (["e"], 1),
        # Another number of replicas: it cannot share a Deployment.
        "shared-3": (["f"], 1),
    }


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0, 0.1, 0.25, 0.5, 0.9, 1, 2, 8]), st.integers(1, 3)),
        min_size=1,
        max_size=12,
    )
)
def test_no_gpu_is_given_twice_and_no_model_lost(wanted: list[tuple[float, int]]) -> None:
    models = file_of(**{f"m{i}": f"gpus = {gpus}\nreplicas = {n}" for i, (gpus, n) in enumerate(wanted)})
    made = groups(models, use_gpus=True)
    assert sorted(entry.name for group in made for entry in group.models) == sorted(models.models)
    for group in made:
        assert sum(entry.gpus for entry in group.models) <= group.gpus + 1e-9
        assert {entry.replicas for entry in group.models} == {group.replicas}
        assert group.slots > 0 < group.memory_mb


def test_memory_and_threads_count_for_a_pod() -> None:
    (alone,) = groups(ONE, use_gpus=False)
    (more,) = groups(file_of(prose="cpu_workers = 4\nthreads = 2"), use_gpus=False)
    assert (alone.millicores, more.millicores) == (1250, 8250)
    assert more.memory_mb > 2 * alone.memory_mb
    assert more.slots == 4 * alone.slots
    (told,) = groups(file_of(prose="memory_mb = 5000"), use_gpus=False)
    assert told.memory_mb >= 5000


@pytest.mark.parametrize(
    ("models", "use_gpus", "said"),
    [
        (file_of(a="gpus = 1\ncpu_workers = 0"), False, r"models\.a: cpu_workers = 0 forbids the CPU"),
        (file_of(dark_souls="", **{"dark-souls": ""}), False, "both become 'dark-souls'"),
        (file_of(a="gpus = 1\nmemory_mb = 100000"), True, "one worker needs 100000 MiB"),
    ],
)
def test_what_cannot_become_pods_is_refused(models: ModelsFile, use_gpus: bool, said: str) -> None:
    with pytest.raises(GroupError, match=said):
        groups(models, use_gpus=use_gpus)


def test_long_names_become_labels() -> None:
    assert slug("a" * 63) == "a" * 40
    assert slug("_a__b_") == "a-b"


def test_gateway_is_told_where_each_model_is() -> None:
    cluster = Cluster(commands.shipped().composed("gpu"))
    front = next(pod for pod in cluster.pods if pod.component == "gateway")
    known = yaml.safe_load(environment_of(front.main[0])["INKWELL_MODEL_INFERENCE"])
    assert known["prose"] == known["names"] == ["http://inkwell-worker-shared-1:8080"]
    assert known["stories"] == ["http://inkwell-worker-stories:8080"]


def test_the_gateway_takes_the_rendered_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its own settings class reads what the Deployment sets, and so does its models file."""
    from api.settings import Settings

    things = commands.shipped().composed("gpu")
    front = next(pod for pod in Cluster(things).pods if pod.component == "gateway")
    for name, value in environment_of(front.main[0]).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("INKWELL_HOST", "0.0.0.0")
    taken = Settings()
    assert taken.discover
    assert taken.drain_s == taken.deadline_s == Options.longest_request_s
    assert (
        set(taken.model_inference)
        == set(taken.model_management)
        == {*load(ROOT / "deploy/models.gpu.toml").models}
    )
    held = next(t for t in things if t["kind"] == "ConfigMap" and t["metadata"]["name"] == gateway.MODELS)
    assert loads(held["data"]["models.toml"]).default_model == "prose"


def test_a_change_of_the_models_rolls_only_the_pods_that_it_concerns() -> None:
    def templates(models: ModelsFile) -> dict[str, Any]:
        tree = render(models, models, Options())
        return {pod.name: pod.template for pod in Cluster(tree.composed("cpu")).pods}

    before, after = templates(file_of(a="", b="")), templates(file_of(a="slots = 8", b=""))
    assert [name for name in before if before[name] != after[name]] == [
        "Deployment inkwell-gateway",
        "Deployment inkwell-worker-a",
    ]


def test_rendering_again_changes_nothing_and_what_is_gone_goes(tmp_path: Path) -> None:
    two = render(file_of(a="", b=""), ONE, Options()).texts()
    assert write(two, tmp_path) == sorted(two)
    assert write(two, tmp_path) == []
    (tmp_path / "overlays/mine").mkdir()
    one = render(file_of(a=""), ONE, Options()).texts()
    assert "overlays/cpu/worker-b.yaml" in write(one, tmp_path)
    assert not (tmp_path / "overlays/cpu/worker-b.yaml").exists()
    assert differences(one, tmp_path) == []


def inkwell(*words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "training", "k8s", *words],
        input=given,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


def test_program_renders_and_verifies(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(
        '[models.tales]\nfamily = "prose"\nreplicas = 4\n', encoding="utf-8"
    )
    own = ("--models-file", str(tmp_path / "models.toml"), "--gpu-models-file", str(tmp_path / "models.toml"))
    out = ("--out", str(tmp_path / "k8s"), "--namespace", "tales")
    assert inkwell("render", *own, *out, "--check").returncode == 1
    answer = inkwell("render", *own, *out)
    assert answer.returncode == 0, answer.stderr
    assert inkwell("render", *own, *out, "--check").returncode == 0
    written = yaml.safe_load((tmp_path / "k8s/base/namespace.yaml").read_text(encoding="utf-8"))
    assert written["metadata"]["name"] == "tales"
    whole = "---\n".join(
        path.read_text(encoding="utf-8")
        for folder in ("base", "overlays/cpu")
        for path in sorted((tmp_path / "k8s" / folder).glob("*.yaml"))
        if path.name != "kustomization.yaml"
    )
    answer = inkwell("verify", "-", given=whole)
    # Nothing in it was changed but the number of models, so nothing is wrong with it.
    assert answer.returncode == 0, answer.stdout + answer.stderr
    answer = inkwell("verify", "-", given=whole.replace("runAsNonRoot: true", "runAsNonRoot: false"))
    assert answer.returncode == 1
    assert "may run as root" in answer.stdout


def test_program_names_what_is_wrong(tmp_path: Path) -> None:
    for words, said in (
        (("render", "--models-file", "absent.toml"), "absent.toml"),
        (("render", "--most-replicas", "1", "--out", str(tmp_path)), "--most-replicas 1: must be at least 2"),
        (("render", "--gpu-memory", "80X", "--out", str(tmp_path)), "80X"),
        (("verify", str(tmp_path / "absent.yaml")), "cannot be read"),
    ):
        answer = inkwell(*words)
        assert answer.returncode == 2, answer.stderr
        assert said in answer.stderr.replace("\n", "")
        assert "Traceback" not in answer.stderr
    answer = inkwell("verify", "-", given="- 1\n")
    assert answer.returncode == 2
    assert "no object" in answer.stderr


@pytest.mark.parametrize(
    ("text", "value"), [("250m", "0.25"), ("2", "2"), ("1.5Gi", "1610612736"), ("1k", "1000"), (3, "3")]
)
def test_quantities_are_read(text: str, value: str) -> None:
    assert quantity(text) == quantity(value)


@pytest.mark.parametrize("text", ["", "Gi", "-1", "1Zi", "1 Gi"])
def test_bad_quantities_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        quantity(text)


def test_prometheus_finds_the_pods_and_ports_that_are_rendered() -> None:
    """Job names are those of the alert rules; labels and ports are those of the pods."""
    config = yaml.safe_load(
        (ROOT / "deploy/monitoring/prometheus-kubernetes.yml").read_text(encoding="utf-8")
    )
    plain = yaml.safe_load((ROOT / "deploy/monitoring/prometheus.yml").read_text(encoding="utf-8"))
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert list(jobs) == [job["job_name"] for job in plain["scrape_configs"]]
    pods = list(Cluster(commands.shipped().composed("cpu")).pods)
    for job, component in (("inkwell", "gateway"), ("torchserve", "worker")):
        (found,) = jobs[job]["kubernetes_sd_configs"]
        assert found["namespaces"]["names"] == [Options.namespace]
        key, value = found["selectors"][0]["label"].split("=")
        meant = [pod for pod in pods if pod.labels.get(key) == value]
        assert {pod.component for pod in meant} == {component}
        kept = next(rule["regex"] for rule in jobs[job]["relabel_configs"] if rule.get("action") == "keep")
        assert all(kept in {port["name"] for port in pod.main[0]["ports"]} for pod in meant)
