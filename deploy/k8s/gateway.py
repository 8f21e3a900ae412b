"""The gateway: at least two replicas without state, scaled on processor time."""

from __future__ import annotations

import json
from collections.abc import Sequence

from deploy.k8s import workers
from deploy.k8s.groups import Group
from deploy.k8s.parts import (
    APP,
    Object,
    Options,
    account,
    budget,
    confined,
    empty,
    environment,
    labels,
    mounts,
    object_,
    pod,
    resources,
    spread,
)
from deploy.models_file import ModelsFile, dumps

PORT = 8000
NAME = "inkwell-gateway"
ACCOUNT = "inkwell-gateway"
MODELS = "inkwell-models"
# Made by hand, since it is secret: docs/kubernetes.md.
KEYS = "inkwell-keys"
# Until every node has heard that a pod is on its way out, requests still come.
_FORGOTTEN_S = 10
_LEAST, _MOST = 2, 10


def fixed(options: Options) -> list[Object]:
    """What does not depend on the models."""
    label = labels("gateway")
    ports = [{"name": "http", "port": PORT, "targetPort": "http"}]
    return [
        account(ACCOUNT, options, label),
        object_("v1", "Service", APP, options, label, spec={"selector": label, "ports": ports}),
        budget(NAME, options, label),
        _autoscaler(options, label),
    ]


def objects(models_file: ModelsFile, groups: Sequence[Group], options: Options) -> list[Object]:
    """What knows the models: their file, and the gateway that serves them from the pods of `groups`."""
    label = labels("gateway")
    text = dumps(models_file)
    return [
        object_("v1", "ConfigMap", MODELS, options, label, data={"models.toml": text}),
        _deployment(text, groups, options, label),
    ]


def _deployment(text: str, groups: Sequence[Group], options: Options, label: dict[str, str]) -> Object:
    drain_s = options.longest_request_s
    template = pod(
        ACCOUNT,
        label,
        annotations={"inkwell/models": workers.digest(text)},
        terminationGracePeriodSeconds=_FORGOTTEN_S + drain_s + 15,
        topologySpreadConstraints=spread(label),
        containers=[_container(groups, options, drain_s)],
        volumes=[
            empty("tmp", 64),
            {"name": "models-file", "configMap": {"name": MODELS}},
            {"name": "keys", "secret": {"secretName": KEYS, "defaultMode": 0o440}},
        ],
    )
    spec = {
        # The autoscaler's business: no `replicas`, which every `apply` would set back.
        "revisionHistoryLimit": 3,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "selector": {"matchLabels": label},
        "template": template,
    }
    return object_("apps/v1", "Deployment", NAME, options, label, spec=spec)


def addresses(groups: Sequence[Group], port: int) -> str:
    """Model -> the Service of its group, as the gateway's settings take it."""
    found = {
        entry.name: [f"http://{workers.names(group)}:{port}"] for group in groups for entry in group.models
    }
    return json.dumps(found, sort_keys=True)


def _container(groups: Sequence[Group], options: Options, drain_s: int) -> Object:
    # Not /ready, which speaks for all models: one without workers must not take the others from the Service.
    health = {"httpGet": {"path": "/health", "port": "http"}}
    return {
        "name": "gateway",
        "image": options.image("gateway"),
        "env": environment(
            INKWELL_MODELS_FILE="/etc/inkwell/models.toml",
            INKWELL_KEY_FILE="/etc/inkwell-keys/keys",
            INKWELL_MODEL_INFERENCE=addresses(groups, workers.INFERENCE),
            INKWELL_MODEL_MANAGEMENT=addresses(groups, workers.MANAGEMENT),
            INKWELL_DISCOVER="true",
            INKWELL_DEADLINE_S=str(options.longest_request_s),
            INKWELL_DRAIN_S=str(drain_s),
        ),
        "ports": [{"name": "http", "containerPort": PORT}],
        "securityContext": confined(),
        "resources": resources(500, 1024, 128),
        "startupProbe": {**health, "periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 30},
        "readinessProbe": {**health, "periodSeconds": 5, "timeoutSeconds": 3, "failureThreshold": 3},
        "livenessProbe": {**health, "periodSeconds": 15, "timeoutSeconds": 5, "failureThreshold": 4},
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(_FORGOTTEN_S)]}}},
        "volumeMounts": mounts(
            [("tmp", "/tmp"), ("models-file", "/etc/inkwell"), ("keys", "/etc/inkwell-keys")],  # noqa: S108 - within the pod
            read_only=["models-file", "keys"],
        ),
    }


def _autoscaler(options: Options, label: dict[str, str]) -> Object:
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME},
        "minReplicas": _LEAST,
        "maxReplicas": _MOST,
        "metrics": [cpu_metric(70)],
        "behavior": slow_to_shrink(),
    }
    return object_("autoscaling/v2", "HorizontalPodAutoscaler", NAME, options, label, spec=spec)


def cpu_metric(percent: int) -> Object:
    target = {"type": "Utilization", "averageUtilization": percent}
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


def slow_to_shrink() -> Object:
    """Up at once, by as much again or four pods; down one pod at a time, after ten minutes of calm."""
    return {
        "scaleUp": {
            "stabilizationWindowSeconds": 0,
            "selectPolicy": "Max",
            "policies": [
                {"type": "Percent", "value": 100, "periodSeconds": 60},
                {"type": "Pods", "value": 4, "periodSeconds": 60},
            ],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": 600,
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": 120}],
        },
    }
