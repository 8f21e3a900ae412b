"""The real kustomize makes of the repository's folder what the rules were checked on."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.k8s import commands
from deploy.k8s.cluster import Cluster

pytestmark = pytest.mark.proof
FOLDER = Path(__file__).resolve().parents[3] / "deploy/k8s"
TREE = commands.shipped()


def composed(kustomize: list[str], folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    answer = subprocess.run([*kustomize, folder], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    # It warns of what it will stop to understand.
    assert answer.stderr == ""
    things = list(yaml.safe_load_all(answer.stdout))
    return {(thing["kind"], thing["metadata"]["name"]): thing for thing in things}


@pytest.mark.parametrize("overlay", TREE.overlays)
def test_kustomize_composes_what_was_checked(kustomize: list[str], overlay: str) -> None:
    ours = {(thing["kind"], thing["metadata"]["name"]): thing for thing in TREE.composed(overlay)}
    assert composed(kustomize, FOLDER / "overlays" / overlay) == ours


OWN = """
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [FOLDER/overlays/gpu]
components: [FOLDER/components/keda-gpu, FOLDER/components/image-volume, FOLDER/components/posting-bot]
images:
  - {name: inkwell-gateway, newName: registry.example/inkwell-gateway, digest: "sha256:DIGEST"}
  - {name: inkwell-models, newName: registry.example/inkwell-models, newTag: 2.0.0}
patches:
  - target: {kind: Deployment, labelSelector: app.kubernetes.io/component=worker}
    patch: |
      - {op: replace, path: /spec/template/spec/nodeSelector, value: {example/gpu: l4}}
"""


def test_an_overlay_of_ones_own_puts_components_together_and_holds_to_the_rules(
    kustomize: list[str], tmp_path: Path
) -> None:
    # As a user would lay it, beside the repository's folder: kustomize reads nothing by absolute path.
    shown = tmp_path / "k8s"
    shown.symlink_to(FOLDER)
    mine = tmp_path / "mine"
    mine.mkdir()
    text = OWN.replace("FOLDER", "../k8s").replace("DIGEST", "a" * 64)
    patch = "  - target: {kind: Deployment, name: inkwell-worker-shared-1}"
    text = text.replace(
        "  - target: {kind: Deployment, labelSelector: app.kubernetes.io/component=worker}", patch
    )
    (mine / "kustomization.yaml").write_text(text, encoding="utf-8")
    found = composed(kustomize, mine)
    worker = found["Deployment", "inkwell-worker-shared-1"]["spec"]["template"]["spec"]
    assert worker["nodeSelector"] == {"example/gpu": "l4"}
    assert worker["volumes"][0]["image"]["reference"] == "registry.example/inkwell-models:2.0.0"
    assert "initContainers" not in worker
    front = found["Deployment", "inkwell-gateway"]["spec"]["template"]["spec"]
    assert front["containers"][0]["image"] == f"registry.example/inkwell-gateway@sha256:{'a' * 64}"
    assert ("ScaledObject", "inkwell-worker-shared-1") in found
    assert "replicas" not in found["Deployment", "inkwell-worker-stories"]["spec"]
    assert commands.complaints(found.values()) == []
    assert len({pod.name for pod in Cluster(list(found.values())).pods}) == 5
