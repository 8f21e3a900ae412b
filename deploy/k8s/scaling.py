"""Scaling of worker groups: by what waits and is in hand at the gateways (KEDA), or by processor time (HPA)."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.k8s import workers
from deploy.k8s.gateway import cpu_metric, slow_to_shrink
from deploy.k8s.groups import Group
from deploy.k8s.parts import Object, Options, labels, object_

# Part of a pod's slots that should be taken on average: the rest is for what comes before a new pod is up.
FILLED = 0.7
# Seconds to the first token that one request in twenty may exceed before pods are added, whatever the demand.
SLOW_S = 1.5
_WINDOW = "2m"


def demand(group: Group) -> str:
    """PromQL: texts that wait or are being written, over all gateways.

    What waits alone would be no measure: it is zero until every slot is taken, and then it is too late.
    """
    chosen = selector(group)
    return f"sum(inkwell_queue_jobs{{{chosen}}}) + sum(inkwell_inflight_jobs{{{chosen}}})"


def slowness(group: Group) -> str:
    """PromQL: seconds to the first token at the 95th percentile; 0 where nothing was asked."""
    buckets = f"inkwell_time_to_first_token_seconds_bucket{{{selector(group)}}}"
    quantile = f"histogram_quantile(0.95, sum by (le) (rate({buckets}[{_WINDOW}])))"
    # Without requests the quantile is not a number, which a comparison drops.
    return f"({quantile} > 0) or vector(0)"


def selector(group: Group) -> str:
    return f'model=~"{"|".join(entry.name for entry in group.models)}"'


def keda(groups: Sequence[Group], options: Options) -> list[Object]:
    """A ScaledObject per group."""
    return [_scaled(group, options) for group in groups]


def hpa(groups: Sequence[Group], options: Options) -> list[Object]:
    """A HorizontalPodAutoscaler per group, for clusters without KEDA. Processor time says little of a GPU."""
    made = []
    for group in groups:
        spec = {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": workers.names(group)},
            "minReplicas": group.replicas,
            "maxReplicas": most(group, options),
            "metrics": [cpu_metric(75)],
            "behavior": slow_to_shrink(),
        }
        label = labels("worker", group=group.name)
        made.append(
            object_(
                "autoscaling/v2", "HorizontalPodAutoscaler", workers.names(group), options, label, spec=spec
            )
        )
    return made


def most(group: Group, options: Options) -> int:
    """The most replicas of a group."""
    return min(1000, group.replicas * options.most_replicas)


def _scaled(group: Group, options: Options) -> Object:
    label = labels("worker", group=group.name)
    spec = {
        "scaleTargetRef": {"name": workers.names(group)},
        "minReplicaCount": group.replicas,
        "maxReplicaCount": most(group, options),
        "pollingInterval": 15,
        "cooldownPeriod": 600,
        # Prometheus away for three looks: as many pods as there are now, but not fewer than are always wanted.
        "fallback": {
            "failureThreshold": 3,
            "replicas": group.replicas,
            "behavior": "currentReplicasIfHigher",
        },
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": slow_to_shrink()}},
        "triggers": [
            {
                "type": "prometheus",
                "name": "demand",
                "metricType": "AverageValue",
                "metadata": {
                    "serverAddress": options.prometheus,
                    "query": demand(group),
                    "threshold": f"{max(1, round(FILLED * group.slots))}",
                    "ignoreNullValues": "false",
                },
            },
            {
                "type": "prometheus",
                "name": "slowness",
                # KEDA's fallback knows averages only: seconds per pod would mean nothing, so this one has none.
                "metricType": "Value",
                "metadata": {
                    "serverAddress": options.prometheus,
                    "query": slowness(group),
                    "threshold": f"{SLOW_S:g}",
                    "ignoreNullValues": "false",
                },
            },
        ],
    }
    return object_("keda.sh/v1alpha1", "ScaledObject", workers.names(group), options, label, spec=spec)
