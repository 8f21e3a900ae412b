"""What all manifests share: names, labels, security, volumes. An object is a plain mapping, as YAML holds it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]

APP = "inkwell"
USER = 10001


@dataclass(frozen=True)
class Options:
    """What differs between clusters. Times are in seconds.

    `longest_request_s` is the gateway's INKWELL_DEADLINE_S: pods that are told to stop wait that long. `monitoring`
    is the namespace that Prometheus runs in, and `prometheus` where KEDA asks it.
    """

    namespace: str = APP
    version: str = "0.1.0"
    longest_request_s: int = 120
    monitoring: str = "monitoring"
    prometheus: str = "http://prometheus-operated.monitoring.svc:9090"
    gpu_memory: str = "80G"
    most_replicas: int = 10
    training_nodes: int = 2

    def image(self, name: str) -> str:
        return f"{APP}-{name}:{self.version}"


def labels(component: str, **more: str) -> dict[str, str]:
    """The labels by which Services, budgets and policies find pods."""
    return {"app.kubernetes.io/name": APP, "app.kubernetes.io/component": component} | {
        f"{APP}/{key}": value for key, value in more.items()
    }


def object_(
    api: str, kind: str, name: str, options: Options, label: Mapping[str, str], **fields: Any
) -> Object:
    """An object in the namespace of `options`."""
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": {"name": name, "namespace": options.namespace, "labels": dict(label)},
        **fields,
    }


def budget(name: str, options: Options, label: Mapping[str, str]) -> Object:
    """One pod at a time may be evicted, and a sick one always: it would block a drain for nothing."""
    spec = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": dict(label)},
    }
    return object_("policy/v1", "PodDisruptionBudget", name, options, label, spec=spec)


def account(name: str, options: Options, label: Mapping[str, str]) -> Object:
    """An identity without any right, and without a token to steal."""
    return object_("v1", "ServiceAccount", name, options, label, automountServiceAccountToken=False)


def pod(account_name: str, label: Mapping[str, str], **fields: Any) -> Object:
    """A pod template under the restricted Pod Security Standard."""
    annotations = fields.pop("annotations", None)
    metadata: Object = {"labels": dict(label)}
    if annotations:
        metadata["annotations"] = annotations
    return {
        "metadata": metadata,
        "spec": {
            "serviceAccountName": account_name,
            "automountServiceAccountToken": False,
            # Kubernetes would set INKWELL_PORT and its like to addresses of Services, over our own settings.
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            **fields,
        },
    }


def confined() -> Object:
    """A container's security context: nothing to gain, nothing to write to."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def environment(**values: str) -> list[Object]:
    return [{"name": name, "value": value} for name, value in values.items()]


def spread(label: Mapping[str, str]) -> list[Object]:
    """Over zones first, then over nodes; a pod that cannot be spread still starts."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": dict(label)},
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]


def resources(millicores: int, memory_mb: int, disk_mb: int, gpus: int = 0) -> Object:
    """Memory and disk as much as asked for and no more; processor time is asked for and never capped, since a
    cap stops all rows of a batch at once."""
    cpu = f"{millicores // 1000}" if millicores % 1000 == 0 else f"{millicores}m"
    fixed = {"memory": f"{memory_mb}Mi", "ephemeral-storage": f"{disk_mb}Mi"}
    if gpus:
        fixed["nvidia.com/gpu"] = str(gpus)
    return {"requests": {"cpu": cpu, **fixed}, "limits": dict(fixed)}


def empty(name: str, size_mb: int, *, in_memory: bool = False) -> Object:
    """A volume that lives as long as its pod."""
    held: Object = {"sizeLimit": f"{size_mb}Mi"}
    if in_memory:
        held = {"medium": "Memory", **held}
    return {"name": name, "emptyDir": held}


def mounts(places: Iterable[tuple[str, str]], read_only: Iterable[str] = ()) -> list[Object]:
    """(volume, path) pairs as volume mounts."""
    shut = set(read_only)
    return [
        {"name": name, "mountPath": path} | ({"readOnly": True} if name in shut else {})
        for name, path in places
    ]
