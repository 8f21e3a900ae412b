"""The documented metrics are the exported ones, and dashboard and alerts ask for no others."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from api.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
ROW = re.compile(r"^\| `(inkwell_\w+)` \| (\w+) \|([\w, ]*)\|", re.MULTILINE)
USED = re.compile(r"\binkwell_\w+")


def exported():
    """Name as scraped -> (kind, labels)."""
    families = {family.name: family.type for family in Metrics().registry.collect()}
    objects = [value for value in vars(Metrics()).values() if hasattr(value, "_labelnames")]
    return {
        f"{one._name}_total" if families[one._name] == "counter" else one._name: (
            families[one._name],
            set(one._labelnames),
        )
        for one in objects
    }


def test_documented_metrics_are_those_exported_with_their_kinds_and_labels():
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    documented = {
        name: (kind, {label.strip() for label in found.split(",")} - {""})
        for name, kind, found in ROW.findall(text)
    }
    assert documented == exported()
    assert len(documented) == len(list(Metrics().registry.collect()))


def plain(name):
    """The metric that a sample belongs to."""
    kinds = exported()
    for suffix in ("", "_bucket", "_sum", "_count"):
        if name.endswith(suffix) and name.removesuffix(suffix) in kinds:
            return name.removesuffix(suffix)
    return None


def dashboard_expressions():
    board = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    return [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]


def alert_expressions():
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text())
    return [rule["expr"] for group in rules["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("expression", dashboard_expressions() + alert_expressions())
def test_an_expression_asks_for_metrics_that_exist(expression):
    used = USED.findall(expression)
    assert used or expression.startswith("up{")
    assert [name for name in used if plain(name) is None] == []
    assert expression.count("(") == expression.count(")")


def test_the_dashboard_shows_every_metric():
    shown = {plain(name) for expression in dashboard_expressions() for name in USED.findall(expression)}
    assert shown == set(exported())


def test_panels_of_the_dashboard_do_not_overlap():
    board = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    cells = []
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells += [
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ]
        assert place["x"] + place["w"] <= 24
    assert len(cells) == len(set(cells))
