"""Objects against the schemas of Kubernetes itself, several versions of it, and of KEDA.

The schemas of Kubernetes are those of the package `kubernetes-validate`, in their strict form, where a field that
does not exist is an error. Its own command passes over unknown kinds; here they are errors. KEDA's
ScaledObject is written down below as far as it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from deploy.k8s.cluster import called
from deploy.k8s.parts import Object

# The oldest version that the manifests are meant for; image volumes came later.
OLDEST = "1.30"
OLDEST_WITH_IMAGE_VOLUMES = "1.33"

_COUNT = {"type": "integer", "minimum": 0}
_RULES = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "stabilizationWindowSeconds": {"type": "integer", "minimum": 0, "maximum": 3600},
        "selectPolicy": {"enum": ["Max", "Min", "Disabled"]},
        "policies": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["type", "value", "periodSeconds"],
                "properties": {
                    "type": {"enum": ["Pods", "Percent"]},
                    "value": {"type": "integer", "minimum": 1},
                    "periodSeconds": {"type": "integer", "minimum": 1, "maximum": 1800},
                },
            },
        },
    },
}
_TRIGGER = {
    "type": "object",
    "additionalProperties": False,
    "required": ["type", "metadata"],
    "properties": {
        "type": {"const": "prometheus"},
        "name": {"type": "string"},
        "metricType": {"enum": ["AverageValue", "Value"]},
        "useCachedMetrics": {"type": "boolean"},
        "authenticationRef": {
            "type": "object",
            "additionalProperties": False,
            "required": ["name"],
            "properties": {"name": {"type": "string"}, "kind": {"type": "string"}},
        },
        # KEDA takes every value here as text.
        "metadata": {
            "type": "object",
            "additionalProperties": False,
            "required": ["serverAddress", "query", "threshold"],
            "properties": {
                "serverAddress": {"type": "string", "pattern": "^https?://"},
                "query": {"type": "string", "minLength": 1},
                "threshold": {"type": "string", "pattern": r"^\d+(\.\d+)?$"},
                "activationThreshold": {"type": "string", "pattern": r"^\d+(\.\d+)?$"},
                "ignoreNullValues": {"enum": ["true", "false"]},
                "timeout": {"type": "string"},
            },
        },
    },
}
SCALED_OBJECT: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "keda.sh/v1alpha1"},
        "kind": {"const": "ScaledObject"},
        "metadata": {"type": "object"},
        "spec": {
            "type": "object",
            "additionalProperties": False,
            "required": ["scaleTargetRef", "triggers"],
            "properties": {
                "scaleTargetRef": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["name"],
                    "properties": {key: {"type": "string"} for key in ("apiVersion", "kind", "name")},
                },
                "pollingInterval": _COUNT,
                "cooldownPeriod": _COUNT,
                "initialCooldownPeriod": _COUNT,
                "idleReplicaCount": _COUNT,
                "minReplicaCount": _COUNT,
                "maxReplicaCount": _COUNT,
                "fallback": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["failureThreshold", "replicas"],
                    "properties": {
                        "failureThreshold": _COUNT,
                        "replicas": _COUNT,
                        "behavior": {
                            "enum": [
                                "static",
                                "currentReplicas",
                                "currentReplicasIfHigher",
                                "currentReplicasIfLower",
                            ]
                        },
                    },
                },
                "advanced": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "restoreToOriginalReplicaCount": {"type": "boolean"},
                        "horizontalPodAutoscalerConfig": {
                            "type": "object",
                            "additionalProperties": False,
                            "properties": {
                                "name": {"type": "string"},
                                "behavior": {
                                    "type": "object",
                                    "additionalProperties": False,
                                    "properties": {"scaleUp": _RULES, "scaleDown": _RULES},
                                },
                            },
                        },
                    },
                },
                "triggers": {"type": "array", "minItems": 1, "items": _TRIGGER},
            },
        },
    },
}


def versions(things: Sequence[Object]) -> list[str]:
    """The versions to check `things` against: the oldest they are meant for, and the three newest known."""
    import kubernetes_validate.utils as validator

    known = list(dict.fromkeys(validator.major_minor(version) for version in validator.all_versions()))
    oldest = OLDEST_WITH_IMAGE_VOLUMES if _has_image_volumes(things) else OLDEST
    return list(dict.fromkeys([oldest, *known[-3:]]))


def _has_image_volumes(things: Sequence[Object]) -> bool:
    return any(
        "image" in volume
        for thing in things
        for volume in thing.get("spec", {}).get("template", {}).get("spec", {}).get("volumes", [])
    )


def violations(things: Sequence[Object], version: str) -> Iterator[str]:
    """What Kubernetes of `version` would refuse in `things`. Needs the package `kubernetes-validate`."""
    import jsonschema
    import kubernetes_validate
    import kubernetes_validate.utils as validator

    for thing in things:
        try:
            if thing["kind"] == "ScaledObject":
                jsonschema.validate(thing, SCALED_OBJECT)
            else:
                kubernetes_validate.validate(thing, version, strict=True)
        except jsonschema.ValidationError as error:
            where = ".".join(map(str, error.absolute_path))
            yield f"Kubernetes {version}: {called(thing)}: {where}: {error.message}"
        except validator.SchemaNotFoundError as error:
            yield f"Kubernetes {version}: {called(thing)}: {error.message}"
