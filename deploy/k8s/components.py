"""Additions that change pods of any overlay: each a set of new objects and JSON patches (RFC 6902).

A patch is held here as data, so that what kustomize makes of it can also be composed, and checked, without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deploy.k8s import bot, scaling, workers
from deploy.k8s.groups import Group
from deploy.k8s.parts import (
    Object,
    Options,
    account,
    confined,
    empty,
    environment,
    labels,
    mounts,
    object_,
    pod,
    resources,
)

Operation = dict[str, Any]
_POD = "/spec/template/spec"
FILL = "inkwell-fill-models"
MODELS_CLAIM = "inkwell-models"


@dataclass(frozen=True)
class Patch:
    """`operations` on every object of `kind` whose component label is `component`."""

    kind: str
    component: str
    operations: tuple[Operation, ...]

    @property
    def selector(self) -> str:
        return f"app.kubernetes.io/component={self.component}"

    def concerns(self, thing: Object) -> bool:
        held = thing["metadata"].get("labels", {})
        return bool(thing["kind"] == self.kind and held.get("app.kubernetes.io/component") == self.component)


@dataclass(frozen=True)
class Component:
    """`images` are field paths, beside those of containers, in which kustomize should replace image names."""

    objects: tuple[Object, ...]
    patches: tuple[Patch, ...] = ()
    images: tuple[str, ...] = ()


# A scaler decides how many; a number in the file would be set back with every `apply`.
_SCALED = Patch("Deployment", "worker", ({"op": "remove", "path": "/spec/replicas"},))


def keda(groups: Sequence[Group], options: Options) -> Component:
    return Component(tuple(scaling.keda(groups, options)), (_SCALED,))


def hpa(groups: Sequence[Group], options: Options) -> Component:
    return Component(tuple(scaling.hpa(groups, options)), (_SCALED,))


def posting_bot(model: str, options: Options) -> Component:
    return Component(tuple(bot.objects(model, options)))


def pvc(options: Options) -> Component:
    """Archives on a volume that every node can read; `fill` puts them there."""
    source = {"name": "models", "persistentVolumeClaim": {"claimName": MODELS_CLAIM, "readOnly": True}}
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "10Gi"}}}
    claim = object_("v1", "PersistentVolumeClaim", MODELS_CLAIM, options, labels("models"), spec=spec)
    return Component((claim,), (_models_from(source),))


def image_volume(options: Options) -> Component:
    """Archives mounted straight from the image that carries them, without a copy: Kubernetes 1.35 and later, or
    1.33 with the feature gate ImageVolume."""
    reference = {"reference": options.image("models"), "pullPolicy": "IfNotPresent"}
    source = {"name": "models", "image": reference}
    within = {"op": "add", "path": f"{_POD}/containers/0/volumeMounts/0/subPath", "value": "store"}
    return Component((), (_models_from(source, within),), ("spec/template/spec/volumes/image/reference",))


def _models_from(source: Object, *more: Operation) -> Patch:
    place = f"{_POD}/volumes/{workers.MODELS_VOLUME}"
    return Patch(
        "Deployment",
        "worker",
        (
            {"op": "test", "path": f"{place}/name", "value": "models"},
            {"op": "replace", "path": place, "value": source},
            {"op": "remove", "path": f"{_POD}/initContainers"},
            *more,
        ),
    )


def fill(models_text: str, options: Options) -> list[Object]:
    """A Job that copies the archives from their image to the volume of `pvc`, each checked against its hash."""
    label = labels("fill")
    container = {
        "name": "fill",
        "image": options.image("models"),
        "args": ["python", "-m", "deploy.copy_models", "/store", "/models"],
        "env": environment(INKWELL_MODELS_FILE="/etc/inkwell/models.toml"),
        "securityContext": confined(),
        "resources": resources(100, 256, 128),
        "volumeMounts": mounts(
            [("models", "/models"), ("tmp", "/tmp"), ("models-file", "/etc/inkwell")],  # noqa: S108 - within the pod
            read_only=["models-file"],
        ),
    }
    template = pod(
        FILL,
        label,
        restartPolicy="OnFailure",
        containers=[container],
        volumes=[
            {"name": "models", "persistentVolumeClaim": {"claimName": MODELS_CLAIM}},
            empty("tmp", 64),
            {"name": "models-file", "configMap": {"name": FILL}},
        ],
    )
    spec = {"backoffLimit": 3, "ttlSecondsAfterFinished": 600, "template": template}
    return [
        account(FILL, options, label),
        object_("v1", "ConfigMap", FILL, options, label, data={"models.toml": models_text}),
        object_("batch/v1", "Job", FILL, options, label, spec=spec),
    ]


def apply(patches: Sequence[Patch], things: Sequence[Object]) -> list[Object]:
    """`things` as kustomize leaves them. Raises `ValueError` where a patch does not fit."""
    return [
        _patched(thing, [op for patch in patches if patch.concerns(thing) for op in patch.operations])
        for thing in things
    ]


def _patched(thing: Any, operations: Sequence[Operation]) -> Any:
    for operation in operations:
        keys = operation["path"].strip("/").split("/")
        thing = _at(thing, keys, operation)
    return thing


def _at(inner: Any, keys: Sequence[str], operation: Operation) -> Any:
    """A copy of `inner` with `operation` carried out at `keys`."""
    key: Any = int(keys[0]) if isinstance(inner, list) else keys[0]
    known = key < len(inner) if isinstance(inner, list) else key in inner
    last = len(keys) == 1
    if not known and not (last and operation["op"] == "add"):
        raise ValueError(f"{operation['op']} {operation['path']}: there is no such field")
    copy = list(inner) if isinstance(inner, list) else dict(inner)
    if not last:
        copy[key] = _at(inner[key], keys[1:], operation)
    elif operation["op"] == "test":
        if inner[key] != operation["value"]:
            raise ValueError(f"test {operation['path']}: is {inner[key]!r}, not {operation['value']!r}")
    elif operation["op"] == "remove":
        del copy[key]
    else:
        copy[key] = operation["value"]
    return copy
