"""What Kubernetes itself would take, by its own schemas, and KEDA by ours."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from deploy.k8s import commands, schemas

pytest.importorskip("kubernetes_validate", reason="the schemas are in the package kubernetes-validate")
TREE = commands.shipped()


def test_manifests_fit_the_oldest_and_the_three_newest_versions() -> None:
    found: dict[str, list[str]] = {}
    seen: list[tuple[str, Any]] = []
    for overlay in TREE.overlays:
        things = TREE.composed(overlay)
        tried = schemas.versions(things)
        assert len(tried) == 4
        for version in tried:
            # Most objects stand in several overlays.
            fresh = [thing for thing in things if (version, thing) not in seen]
            seen += [(version, thing) for thing in fresh]
            if said := list(schemas.violations(fresh, version)):
                found[overlay] = said
    assert found == {}
    assert len(seen) > 200


def test_image_volumes_need_a_newer_kubernetes_than_the_rest() -> None:
    assert schemas.versions(TREE.composed("cpu"))[0] == "1.30"
    things = TREE.composed("image-volume")
    assert schemas.versions(things)[0] == "1.33"
    assert any("image" in said for said in schemas.violations(things, "1.30"))


def broken(overlay: str, kind: str, path: str, value: Any) -> list[dict[str, Any]]:
    things = copy.deepcopy(TREE.composed(overlay))
    inner: Any = next(thing for thing in things if thing["kind"] == kind)
    *way, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    for part in way:
        inner = inner[part]
    inner[last] = value
    return things


@pytest.mark.parametrize(
    ("overlay", "kind", "path", "value", "said"),
    [
        ("cpu", "Deployment", "spec/template/spec/containers/0/imagePolicy", "Always", "imagePolicy"),
        (
            "cpu",
            "Deployment",
            "spec/template/spec/containers/0/ports/0/containerPort",
            "http",
            "containerPort",
        ),
        ("cpu", "Service", "spec/ports", 80, "spec.ports"),
        ("cpu", "NetworkPolicy", "spec/ingres", [], "ingres"),
        ("cpu", "Service", "kind", "Servise", "Couldn't find schema for kind Servise"),
        ("posting-bot", "CronJob", "spec/schedule", 4, "spec.schedule"),
        ("training", "Job", "spec/completions", "two", "spec.completions"),
        ("keda", "ScaledObject", "spec/maxReplicas", 3, "maxReplicas"),
        ("keda", "ScaledObject", "spec/triggers/0/metadata/threshold", 45, "threshold"),
        ("keda", "ScaledObject", "spec/triggers/0/metricType", "Average", "metricType"),
        ("keda", "ScaledObject", "apiVersion", "keda.sh/v1", "apiVersion"),
    ],
)
def test_schema_notices(overlay: str, kind: str, path: str, value: Any, said: str) -> None:
    things = broken(overlay, kind, path, value)
    found = list(schemas.violations(things, schemas.versions(TREE.composed(overlay))[-1]))
    assert any(said in complaint for complaint in found), found
