"""The shipped container files hold to every rule, and each rule notices when they do not."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import container_rules as rules
import pytest
from container_rules import RULES, Files, Rule

ROOT = Path(__file__).resolve().parents[3]
# Versions of Debian packages are the base image's to choose: its security updates are wanted.
HADOLINT = (str(Path(sys.executable).parent / "hadolint"), "--ignore", "DL3008", "--no-color")


@pytest.fixture
def files() -> Files:
    return Files.of(ROOT)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_shipped_files_hold_to(rule: Rule, files: Files) -> None:
    assert list(rule(files)) == []


def service(name: str, **values: Any) -> Callable[[Files], Files]:
    """A change of a service's fields; None takes one away."""

    def change(files: Files) -> Files:
        compose = copy.deepcopy(files.compose)
        for key, value in values.items():
            if value is None:
                del compose["services"][name][key]
            else:
                compose["services"][name][key] = value
        return replace(files, compose=compose)

    return change


def dockerfile(name: str, pattern: str, text: str) -> Callable[[Files], Files]:
    """A change of a Dockerfile's text."""

    def change(files: Files) -> Files:
        changed, count = re.subn(pattern, text, files.dockerfiles[name], flags=re.MULTILINE)
        assert count, pattern
        return replace(files, dockerfiles={**files.dockerfiles, name: changed})

    return change


def at(field: str, path: str, value: Any) -> Callable[[Files], Files]:
    """A change somewhere inside one of the read files; list positions are numbers."""

    def change(files: Files) -> Files:
        read = copy.deepcopy(getattr(files, field))
        *way, last = [int(part) if part.isdigit() else part for part in path.split("/")]
        inner = read
        for part in way:
            inner = inner[part]
        inner[last] = value
        return replace(files, **{field: read})

    return change


LIMITS = "services/gateway/deploy/resources/limits"
MUTATIONS: list[tuple[Rule, Callable[[Files], Files], str]] = [
    (rules.user_is_not_root, dockerfile("worker", "^USER .*$", ""), "worker: user root"),
    (rules.user_is_not_root, dockerfile("gateway", "^USER .*$", "USER 0:0"), "gateway: user 0:0"),
    (rules.user_is_not_root, service("grafana", user=None), "grafana: user root"),
    (rules.root_is_read_only, service("gateway", read_only=False), "gateway: its root"),
    (rules.root_is_read_only, service("worker", volumes=["./model_store:/models"]), "worker: ./model_store"),
    (rules.nothing_is_privileged, service("worker", cap_drop=None), "worker: has capabilities"),
    (rules.nothing_is_privileged, service("worker", cap_add=["SYS_ADMIN"]), "worker: has capabilities"),
    (rules.nothing_is_privileged, service("gateway", security_opt=[]), "gateway: may gain"),
    (rules.nothing_is_privileged, service("gateway", network_mode="host"), "gateway: reaches"),
    (rules.nothing_is_privileged, service("worker", privileged=True), "worker: reaches"),
    (rules.an_init_reaps_processes, dockerfile("worker", "^ENTRYPOINT.*$", ""), "worker: has no init"),
    (rules.an_init_reaps_processes, service("prometheus", init=False), "prometheus: has no init"),
    (rules.health_is_checked, dockerfile("gateway", "^HEALTHCHECK.*$", "RUN \\\\"), "gateway: has no health"),
    (rules.health_is_checked, service("worker", healthcheck={"disable": True}), "worker: has no health"),
    (rules.only_the_front_is_published, service("worker", ports=["127.0.0.1:8081:8081"]), "8081"),
    (rules.only_the_front_is_published, service("gateway", ports=["${INKWELL_PORT:-8000}:8000"]), "gateway"),
    (rules.torchserve_is_on_an_inner_network, service("worker", networks=["inside", "outside"]), "outside"),
    (rules.torchserve_is_on_an_inner_network, service("worker", networks=None), "default"),
    (rules.torchserve_is_on_an_inner_network, at("compose", "networks/inside/internal", False), "inside"),
    (rules.memory_and_processes_are_limited, at("compose", LIMITS, {"pids": 9}), "gateway: memory"),
    (rules.memory_and_processes_are_limited, at("compose", LIMITS, {"memory": "1g"}), "gateway: memory"),
    (rules.memory_and_processes_are_limited, service("worker", pids_limit=9), "compose refuses"),
    (rules.memory_and_processes_are_limited, service("worker", logging=None), "its log grows"),
    (rules.scratch_space_belongs_to_the_user, service("gateway", tmpfs=[]), "gateway: has no /tmp"),
    (rules.scratch_space_belongs_to_the_user, dockerfile("worker", "^USER .*$", "USER 7:7"), "another owner"),
    (rules.start_and_stop_are_in_order, service("gateway", depends_on={}), "does not wait"),
    (rules.start_and_stop_are_in_order, service("gateway", stop_grace_period="30s"), "is killed before"),
    (rules.start_and_stop_are_in_order, service("worker", restart="no"), "worker: stays dead"),
    (
        rules.what_is_mounted_exists,
        at("compose", "configs/alerts/file", "./no.yml"),
        "./no.yml does not exist",
    ),
    (rules.what_is_mounted_exists, at("compose", "configs/models/file", "${M:-./no.toml}"), "./no.toml"),
    (rules.what_is_mounted_exists, service("prometheus", configs=[]), "is used nowhere"),
    (rules.what_is_mounted_exists, at("compose", "volumes", {}), "volume prometheus is not defined"),
    (rules.gateway_and_worker_read_the_same_models, service("worker", configs=[]), "worker: reads other"),
    (rules.images_of_others_have_a_version, service("grafana", image="grafana/grafana"), "no version"),
    (rules.images_of_others_have_a_version, service("grafana", image="a/b:latest"), "no version"),
    (
        rules.no_package_index_is_named,
        dockerfile("worker", "=$", "=https://a.example.org/cpu"),
        "a.example.org",
    ),
    (
        rules.no_package_index_is_named,
        dockerfile("gateway", r"\A", "# syntax=docker/dockerfile:1\n"),
        "syntax",
    ),
    (rules.gpus_are_asked_for_apart, service("worker", devices=["/dev/nvidia0"]), "asks for devices"),
    (rules.gpus_are_asked_for_apart, at("gpu", "services/worker/image", "inkwell-worker"), "CUDA image"),
    (
        rules.gpus_are_asked_for_apart,
        at("gpu", "services/worker/deploy/resources/reservations/devices/0/capabilities", ["gpu"]),
        "every GPU",
    ),
    (
        rules.monitoring_finds_what_it_watches,
        at("prometheus", "scrape_configs/1/static_configs/0/targets/0", "worker:8090"),
        "worker:8090",
    ),
    (rules.monitoring_finds_what_it_watches, service("prometheus", networks=["other"]), "gateway:8000"),
    (rules.monitoring_finds_what_it_watches, at("prometheus", "rule_files/0", "/etc/no.yml"), "/etc/no.yml"),
    (
        rules.monitoring_finds_what_it_watches,
        at("grafana", "datasources/0/url", "http://x"),
        "another source",
    ),
    (rules.monitoring_finds_what_it_watches, service("grafana", profiles=None), "grafana: starts unasked"),
]


@pytest.mark.parametrize(("rule", "change", "complaint"), MUTATIONS)
def test_rule_notices(rule: Rule, change: Callable[[Files], Files], complaint: str, files: Files) -> None:
    found = list(rule(change(files)))
    assert any(complaint in line for line in found), found


def test_every_rule_is_tried_on_a_broken_file() -> None:
    assert {rule for rule, _, _ in MUTATIONS} == set(RULES)


def lint(text: str) -> list[str]:
    """Codes of what hadolint finds in a Dockerfile."""
    answer = subprocess.run([*HADOLINT, "-"], input=text, capture_output=True, text=True, check=False)
    assert answer.returncode in (0, 1), answer.stderr
    return re.findall(r"\b(?:DL|SC)\d{4}\b", answer.stdout)


@pytest.mark.parametrize("name", ["gateway", "worker"])
def test_hadolint_finds_nothing_in(name: str, files: Files) -> None:
    assert lint(files.dockerfiles[name]) == []


def test_hadolint_finds_what_is_wrong(files: Files) -> None:
    broken = (
        files.dockerfiles["worker"]
        .replace("bookworm-slim", "latest")
        .replace("USER 10001:10001", "USER root")
    )
    assert {"DL3007", "DL3002"} <= set(lint(broken))
