"""The folder of manifests: a base, overlays to apply as they are, and components to put together.

Everything is a pure function of two models files: one for CPUs, one for GPUs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.k8s import components, gateway, network, training, workers
from deploy.k8s.components import Component, apply
from deploy.k8s.groups import Group, groups
from deploy.k8s.parts import Object, Options
from deploy.models_file import ModelsFile, dumps

_HEAD = "# Rendered by `make k8s-render` from the models files; add overlays of your own beside these.\n"
FOLDERS = ("base", "components", "overlays")


@dataclass(frozen=True)
class Overlay:
    """What an overlay is made of: objects of its own, and components; `on_base` says that the base is below."""

    files: Mapping[str, Sequence[Object]]
    components: tuple[str, ...] = ()
    below: str | None = None


@dataclass(frozen=True)
class Tree:
    """All manifests, before they are text."""

    base: Mapping[str, Sequence[Object]]
    components: Mapping[str, Component]
    overlays: Mapping[str, Overlay]

    def composed(self, name: str) -> list[Object]:
        """The objects of an overlay, as `kubectl kustomize` puts them together."""
        overlay = self.overlays[name]
        found: list[Object] = []
        if overlay.below == "base":
            found += [thing for held in self.base.values() for thing in held]
        elif overlay.below is not None:
            found += self.composed(overlay.below)
        found += [thing for held in overlay.files.values() for thing in held]
        for part in overlay.components:
            component = self.components[part]
            found = [*apply(component.patches, found), *component.objects]
        return found

    def texts(self) -> dict[str, str]:
        """Path -> content of every file."""
        made: dict[str, str] = {}
        for name, held in self.base.items():
            made[f"base/{name}.yaml"] = _objects(held)
        made["base/kustomization.yaml"] = _kustomization(resources=[f"{name}.yaml" for name in self.base])
        for name, component in self.components.items():
            made.update({f"components/{name}/{path}": text for path, text in _component(component).items()})
        for name, overlay in self.overlays.items():
            for file, held in overlay.files.items():
                made[f"overlays/{name}/{file}.yaml"] = _objects(held)
            below = [] if overlay.below is None else [_below(overlay.below)]
            fields: dict[str, Any] = {"resources": [*below, *(f"{file}.yaml" for file in overlay.files)]}
            if overlay.components:
                fields["components"] = [f"../../components/{part}" for part in overlay.components]
            made[f"overlays/{name}/kustomization.yaml"] = _kustomization(**fields)
        return made


def render(cpu: ModelsFile, gpu: ModelsFile, options: Options) -> Tree:
    """The manifests for `cpu` (every model on CPUs) and `gpu` (where it says so, on GPUs).

    Raises `GroupError` for models that cannot become pods.
    """
    on_cpu = groups(cpu, use_gpus=False)
    on_gpu = groups(gpu, use_gpus=True, gpu_memory=options.gpu_memory)
    return Tree(
        base={
            "namespace": [_namespace(options)],
            "gateway": gateway.fixed(options),
            "workers": [workers.worker_account(options)],
            "network": network.objects(options),
        },
        components={
            "hpa-cpu": components.hpa(on_cpu, options),
            "hpa-gpu": components.hpa(on_gpu, options),
            "image-volume": components.image_volume(options),
            "keda-cpu": components.keda(on_cpu, options),
            "keda-gpu": components.keda(on_gpu, options),
            "posting-bot": components.posting_bot(cpu.default_model, options),
            "pvc": components.pvc(options),
        },
        overlays={
            "cpu": Overlay(_serving(cpu, on_cpu, options), below="base"),
            "gpu": Overlay(_serving(gpu, on_gpu, options), below="base"),
            "hpa": Overlay({}, ("hpa-cpu",), "cpu"),
            "keda": Overlay({}, ("keda-cpu",), "cpu"),
            "gpu-keda": Overlay({}, ("keda-gpu",), "gpu"),
            "pvc": Overlay({}, ("pvc",), "cpu"),
            "image-volume": Overlay({}, ("image-volume",), "cpu"),
            "posting-bot": Overlay({}, ("posting-bot",), "cpu"),
            "fill-models": Overlay({"fill": components.fill(dumps(cpu), options)}),
            "training": Overlay({"training": training.objects(options)}),
        },
    )


def _serving(models_file: ModelsFile, held: Sequence[Group], options: Options) -> dict[str, Sequence[Object]]:
    made: dict[str, Sequence[Object]] = {"gateway": gateway.objects(models_file, held, options)}
    return made | {f"worker-{group.name}": workers.objects(group, options) for group in held}


def _namespace(options: Options) -> Object:
    enforced = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": options.namespace,
            "labels": {"app.kubernetes.io/name": "inkwell", "app.kubernetes.io/component": "namespace"}
            | enforced,
        },
    }


def _below(name: str) -> str:
    return "../../base" if name == "base" else f"../{name}"


def _component(component: Component) -> dict[str, str]:
    fields: dict[str, Any] = {}
    made: dict[str, str] = {}
    if component.objects:
        fields["resources"] = ["objects.yaml"]
        made["objects.yaml"] = _objects(component.objects)
    if component.patches:
        fields["patches"] = [
            {
                "target": {"kind": patch.kind, "labelSelector": patch.selector},
                "patch": _text(list(patch.operations)),
            }
            for patch in component.patches
        ]
    if component.images:
        fields["configurations"] = ["images.yaml"]
        made["images.yaml"] = _HEAD + _text(
            {"images": [{"path": path, "kind": "Deployment"} for path in component.images]}
        )
    made["kustomization.yaml"] = _kustomization("Component", "kustomize.config.k8s.io/v1alpha1", **fields)
    return made


def _kustomization(
    kind: str = "Kustomization", api: str = "kustomize.config.k8s.io/v1beta1", **fields: Any
) -> str:
    return _HEAD + _text({"apiVersion": api, "kind": kind, **fields})


def _objects(held: Sequence[Object]) -> str:
    return _HEAD + "---\n".join(_text(thing) for thing in held)


class _Plain(yaml.SafeDumper):
    """Every object in full, and long texts as they are read."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def _lines(dumper: _Plain, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Plain.add_representer(str, _lines)


def _text(value: Any) -> str:
    return str(yaml.dump(value, Dumper=_Plain, sort_keys=False, width=110, allow_unicode=True))


def write(texts: Mapping[str, str], folder: Path) -> list[str]:
    """Make `folder` hold `texts`; files of an earlier rendering that are no more go. Returns the changed paths."""
    changed = differences(texts, folder)
    for path in changed:
        place = folder / path
        if path in texts:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(texts[path], encoding="utf-8")
        else:
            place.unlink()
            if not any(place.parent.iterdir()):
                place.parent.rmdir()
    return changed


def differences(texts: Mapping[str, str], folder: Path) -> list[str]:
    """Paths whose file is missing, other than rendered, or left over."""
    there = {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for part in FOLDERS
        for path in (folder / part).rglob("*.yaml")
    }
    return sorted(path for path in there.keys() | texts.keys() if there.get(path) != texts.get(path))
