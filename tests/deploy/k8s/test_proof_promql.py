"""Every PromQL of the rules, the dashboard and KEDA, asked of a Prometheus that scrapes the real services."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from proof_prometheus import MODELS, Prometheus, prometheus, served, until

from deploy.k8s.cluster import Cluster
from deploy.k8s.parts import Options
from deploy.k8s.tree import render
from deploy.k8s.work_rules import queries
from deploy.models_file import loads

pytestmark = pytest.mark.proof
MONITORING = Path(__file__).resolve().parents[3] / "deploy/monitoring"
# Counted when something goes wrong or an administrator acts, so there is nothing to see of them in a quiet run; the
# tests' models have no index of copies, and sessions are shared only where a store for them is set.
EVENTS = re.compile(
    r"inkwell_(rejections|admin|retries|ejections|readmissions|revivals|redraws|novelty_rejections|duplicates)_total"
    r"|inkwell_novelty_ratio|inkwell_session_store_up"
    r'|status=~"5|outcome=~"generation'
)
NAME = re.compile(r"\binkwell_\w+")


def dashboard() -> list[str]:
    board = json.loads((MONITORING / "grafana-dashboard.json").read_text(encoding="utf-8"))
    found = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    # What Grafana puts in for "all models" and for four scrapes.
    return [text.replace("$model", ".*").replace("$__rate_interval", "30s") for text in found]


def alerts() -> dict[str, str]:
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text(encoding="utf-8"))
    return {rule["alert"]: rule["expr"] for group in rules["groups"] for rule in group["rules"]}


def keda() -> dict[str, str]:
    tree = render(loads(MODELS), loads(MODELS), Options())
    return {
        f"{who} {number}": query
        for number, (who, query) in enumerate(queries(Cluster(tree.composed("keda"))))
    }


@pytest.fixture(scope="module")
def asked(
    prometheus_programs: Path, tmp_path_factory: pytest.TempPathFactory, char_bundle: Path, gpt_bundle: Path
) -> Iterator[Prometheus]:
    """A Prometheus that has seen two models answer."""
    folder = tmp_path_factory.mktemp("scraped")
    with (
        served(folder, (char_bundle, gpt_bundle)) as stack,
        prometheus(prometheus_programs, folder / "prometheus", stack.port, stack.metrics_port) as running,
    ):
        until(
            lambda: len(running.query("inkwell_workers_ready == 1")) == 2, "both models are seen to be ready"
        )

        def count() -> float:
            found = running.query("sum(inkwell_jobs_total)")
            return float(found[0]["value"][1]) if found else 0.0

        for at_least in (1.0, 5.0, 9.0):
            for model in ("prose", "names"):
                body = {
                    "model": model,
                    "inputs": "The",
                    "parameters": {"max_new_tokens": 20, "novelty": {"mode": "mark"}},
                }
                answer = stack.post("/generate", body)
                assert answer.status_code == 200, answer.text
                assert (
                    stack.post("/generate_stream", body | {"parameters": {"max_new_tokens": 9}}).status_code
                    == 200
                )
            assert stack.post("/generate", {"inputs": "x", "nonsense": 1}).status_code == 422
            # A rate needs two scrapes that differ.
            until(lambda least=at_least: count() >= least, "jobs are scraped")
        until(lambda: running.query("sum(rate(inkwell_jobs_total[30s])) > 0"), "jobs have a rate")
        yield running


@pytest.fixture(scope="session")
def prometheus_programs(prometheus: Path) -> Path:
    return prometheus


def test_both_services_are_scraped(asked: Prometheus) -> None:
    def health() -> dict[str, str]:
        return {t["labels"]["job"]: t["health"] for t in asked.get("/api/v1/targets")["activeTargets"]}

    until(lambda: health() == {"inkwell": "up", "torchserve": "up"}, "both targets are up")
    until(lambda: asked.query("sum(ts_inference_requests_total) > 0"), "TorchServe counts requests")


def test_every_metric_that_is_asked_for_is_known(asked: Prometheus) -> None:
    known = set(asked.get("/api/v1/metadata"))
    for expression in (*dashboard(), *alerts().values(), *keda().values()):
        for name in NAME.findall(expression):
            plain = re.sub(r"_(bucket|sum|count)$", "", name)
            assert {name, plain, name.removesuffix("_total")} & known, f"{name} in {expression}"


@pytest.mark.parametrize("expression", dashboard())
def test_panel_shows_something(asked: Prometheus, expression: str) -> None:
    found = asked.query(expression)
    assert found or EVENTS.search(expression), "no panel is empty but those of events"


@pytest.mark.parametrize("name", alerts())
def test_alert_is_evaluated_and_quiet(asked: Prometheus, name: str) -> None:
    """`bool` makes of "is it so?" a 0 or a 1 instead of dropping what is not."""
    expression, changes = re.subn(r"\s(==|<|>)\s", r" \1 bool ", alerts()[name])
    assert changes == 1
    found = asked.query(expression)
    assert found or EVENTS.search(expression)
    assert {float(sample["value"][1]) for sample in found} <= {0.0} or name == "InkwellSlowFirstToken"


def test_prometheus_itself_evaluates_every_alert(asked: Prometheus) -> None:
    def healths() -> dict[str, str]:
        groups = asked.get("/api/v1/rules")["groups"]
        return {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}

    until(lambda: set(healths().values()) == {"ok"}, "every rule was evaluated without an error")
    assert healths().keys() == alerts().keys()


@pytest.mark.parametrize("who", keda())
def test_keda_gets_one_number(asked: Prometheus, who: str) -> None:
    """It takes a single sample that is a number; anything else it reports as an error."""
    (sample,) = asked.query(keda()[who])
    assert math.isfinite(float(sample["value"][1]))


def test_keda_gets_a_number_for_a_model_that_nobody_asks(asked: Prometheus) -> None:
    slowness = next(query for query in keda().values() if "quantile" in query).replace("prose", "nobody")
    (sample,) = asked.query(slowness.replace('"names"', '"nobody"'))
    assert float(sample["value"][1]) == 0


def test_a_broken_expression_is_noticed(asked: Prometheus) -> None:
    with pytest.raises(AssertionError, match="parse error"):
        asked.query("sum(rate(inkwell_jobs_total))) by model")


def test_promtool_takes_rules_and_configuration(prometheus_programs: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((MONITORING / "prometheus-kubernetes.yml").read_text(encoding="utf-8"))
    for job in config["scrape_configs"]:
        # Debian's Prometheus was built without the discovery of Kubernetes; everything else is as shipped.
        assert job.pop("kubernetes_sd_configs")
    (tmp_path / "config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    for kind, path in (("rules", MONITORING / "alerts.yml"), ("config", tmp_path / "config.yml")):
        answer = subprocess.run(
            [prometheus_programs / "promtool", "check", kind, path],
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr
