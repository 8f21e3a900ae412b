# ruff: noqa: E501 - a table is read line by line
"""The manifests hold to every rule, and each rule notices when they do not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from deploy.k8s import commands
from deploy.k8s.cluster import Cluster
from deploy.k8s.parts import Object
from deploy.k8s.work_rules import all_rules

RULES = all_rules(commands.documented_metrics())
TREE = commands.shipped()
GONE = object()
NEW = object()
Change = Callable[[list[Object]], None]


@pytest.mark.parametrize("overlay", TREE.overlays)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_manifests_hold_to(rule: Any, overlay: str) -> None:
    assert list(rule(Cluster(TREE.composed(overlay)))) == []


def at(which: str, path: str, value: Any = GONE) -> Change:
    """A change inside the object `Kind name`; list positions are numbers, GONE takes a field away, and `+` as the
    last step adds to a list."""

    def change(things: list[Object]) -> None:
        kind, _, name = which.partition(" ")
        (inner,) = [t for t in things if t["kind"] == kind and t["metadata"]["name"] == name]
        *way, last = [int(part) if part.isdigit() else part.replace("~", "/") for part in path.split("/")]
        for part in way:
            inner = inner[part]
        if value is GONE:
            del inner[last]
        elif last == "+":
            inner.append(value)
        else:
            inner[last] = value

    return change


def without(which: str) -> Change:
    def change(things: list[Object]) -> None:
        kind, _, name = which.partition(" ")
        before = len(things)
        things[:] = [t for t in things if (t["kind"], t["metadata"]["name"]) != (kind, name)]
        assert len(things) == before - 1

    return change


def twice(which: str, name: str) -> Change:
    """A second one of the same, with another name."""

    def change(things: list[Object]) -> None:
        kind, _, old = which.partition(" ")
        (found,) = [t for t in things if (t["kind"], t["metadata"]["name"]) == (kind, old)]
        things.append({**copy.deepcopy(found), "metadata": {**found["metadata"], "name": name}})

    return change


def queried(trigger: int, before: str, after: str) -> Change:
    def change(things: list[Object]) -> None:
        (found,) = [
            t for t in things if t["kind"] == "ScaledObject" and t["metadata"]["name"].endswith("prose")
        ]
        metadata = found["spec"]["triggers"][trigger]["metadata"]
        assert before in metadata["query"]
        metadata["query"] = metadata["query"].replace(before, after)

    return change


WORKER = "Deployment inkwell-worker-prose"
FRONT = "Deployment inkwell-gateway"
SHARED = "Deployment inkwell-worker-shared-1"
SCALED = "ScaledObject inkwell-worker-prose"
BOT = "CronJob inkwell-bot"
JOB = "Job inkwell-training"
POD = "spec/template/spec"
ONE = f"{POD}/containers/0"
SERVICE = "Service inkwell-worker-prose"
GPU = "nvidia.com~gpu"
MUTATIONS: list[tuple[str, str, Change, str]] = [
    ("pods_are_restricted", "cpu", at(WORKER, f"{POD}/hostNetwork", True), "hostNetwork"),
    ("pods_are_restricted", "cpu", at(WORKER, f"{POD}/securityContext/runAsNonRoot"), "may run as root"),
    ("pods_are_restricted", "cpu", at(WORKER, f"{POD}/securityContext/runAsUser", 0), "no user of its own"),
    ("pods_are_restricted", "cpu", at(FRONT, f"{POD}/securityContext/seccompProfile"), "seccomp"),
    ("pods_are_restricted", "cpu", at(FRONT, f"{ONE}/securityContext/allowPrivilegeEscalation", True), "gain"),
    ("pods_are_restricted", "cpu", at(WORKER, f"{POD}/initContainers/0/securityContext/capabilities"), "models: has cap"),
    ("pods_are_restricted", "cpu", at(WORKER, f"{ONE}/securityContext/capabilities/add", ["SYS_ADMIN"]), "capabilities"),
    ("pods_are_restricted", "cpu", at(WORKER, f"{ONE}/ports/0/hostPort", 8080), "port of its node"),
    ("pods_are_restricted", "cpu", at(WORKER, f"{POD}/volumes/0", {"name": "models", "hostPath": {"path": "/"}}), "kind"),
    ("roots_are_read_only", "cpu", at(FRONT, f"{ONE}/securityContext/readOnlyRootFilesystem", False), "written"),
    ("roots_are_read_only", "cpu", at(FRONT, f"{ONE}/volumeMounts/0/mountPath", "/scratch"), "no /tmp"),
    ("models_are_read_only_where_they_are_served", "cpu", at(WORKER, f"{ONE}/volumeMounts/0/readOnly"), "changed"),
    ("nobody_gets_a_token", "cpu", at(WORKER, f"{POD}/automountServiceAccountToken"), "mounts a token"),
    ("nobody_gets_a_token", "cpu", at("ServiceAccount inkwell-worker", "automountServiceAccountToken", True), "gives"),
    ("services_do_not_set_our_variables", "cpu", at(FRONT, f"{POD}/enableServiceLinks"), "INKWELL_PORT"),
    ("resources_are_bounded", "cpu", at(WORKER, f"{ONE}/resources/limits/memory"), "memory has no limit"),
    ("resources_are_bounded", "cpu", at(WORKER, f"{ONE}/resources/requests/memory", "1Mi"), "another than"),
    ("resources_are_bounded", "cpu", at(WORKER, f"{ONE}/resources/requests/cpu"), "no processor time"),
    ("resources_are_bounded", "cpu", at(WORKER, f"{ONE}/resources/limits/cpu", "100m"), "asks for more cpu"),
    ("resources_are_bounded", "cpu", at(WORKER, f"{POD}/volumes/2/emptyDir", {}), "grows without end"),
    ("resources_are_bounded", "cpu", at(WORKER, f"{POD}/volumes/3/emptyDir/sizeLimit", "64Gi"), "take all of it"),
    ("gpus_are_whole_and_found", "gpu", at(SHARED, f"{ONE}/resources/requests/{GPU}"), "asks for None"),
    ("gpus_are_whole_and_found", "gpu", at(SHARED, f"{ONE}/resources/limits/{GPU}", "0.5"), "one whole number"),
    ("gpus_are_whole_and_found", "gpu", at(SHARED, f"{POD}/tolerations"), "kept off"),
    ("gpus_are_whole_and_found", "gpu", at(SHARED, f"{POD}/nodeSelector"), "where no GPU is"),
    ("gpus_are_whole_and_found", "gpu", at(SHARED, "spec/strategy/rollingUpdate/maxSurge", 1), "a pod more"),
    ("gpus_are_whole_and_found", "gpu", at(SHARED, f"{ONE}/volumeMounts/3"), "no /dev/shm"),
    ("what_stays_is_watched", "cpu", at(FRONT, f"{ONE}/livenessProbe"), "has no livenessProbe"),
    ("what_stays_is_watched", "cpu", at(FRONT, f"{ONE}/readinessProbe/httpGet/port", "web"), "a port that it has not"),
    ("what_stays_is_watched", "cpu", at(WORKER, f"{ONE}/readinessProbe/exec/command", ["true"]), "every model is ready"),
    ("what_stays_is_watched", "cpu", at(WORKER, f"{ONE}/livenessProbe", {"exec": {"command": ["x"]}}), "more than"),
    ("what_stays_is_watched", "cpu", at(WORKER, f"{ONE}/startupProbe/failureThreshold", 3), "large models"),
    ("what_stays_is_watched", "cpu", at(WORKER, f"{ONE}/livenessProbe/failureThreshold", 1), "for a pause"),
    ("work_in_hand_is_finished", "cpu", at(WORKER, f"{ONE}/lifecycle"), "stops after 0 s"),
    ("work_in_hand_is_finished", "cpu", at(WORKER, f"{ONE}/lifecycle/preStop/exec/command/1", "5"), "stops after 5 s"),
    ("work_in_hand_is_finished", "cpu", at(WORKER, f"{POD}/terminationGracePeriodSeconds"), "killed after 30 s"),
    ("work_in_hand_is_finished", "cpu", at(FRONT, f"{POD}/terminationGracePeriodSeconds", 125), "killed after 125 s"),
    ("work_in_hand_is_finished", "cpu", at(FRONT, f"{ONE}/lifecycle"), "still sent to it"),
    ("work_in_hand_is_finished", "cpu", at(FRONT, f"{ONE}/env/6/value", "20"), "drains for 20 s"),
    ("what_stays_is_spread", "cpu", at(FRONT, f"{POD}/topologySpreadConstraints/0"), "in one zone"),
    (
        "what_stays_is_spread", "cpu",
        at(FRONT, f"{POD}/topologySpreadConstraints/0/labelSelector/matchLabels/app", "other"), "labels that it has not",
    ),
    ("images_are_pinned", "cpu", at(FRONT, f"{ONE}/image", "inkwell-gateway"), "neither a digest"),
    ("images_are_pinned", "cpu", at(WORKER, f"{POD}/initContainers/0/image", "inkwell-models:latest"), "neither"),
    ("images_are_pinned", "image-volume", at(WORKER, f"{POD}/volumes/0/image/reference", "models"), "neither"),
    ("names_are_valid_and_once", "cpu", twice(SERVICE, "inkwell-worker-prose"), "is there 2 times"),
    ("names_are_valid_and_once", "cpu", twice(SERVICE, "Prose_2"), "no DNS label"),
    ("names_are_valid_and_once", "cpu", at(WORKER, "metadata/namespace", "default"), "several namespaces"),
    ("names_are_valid_and_once", "cpu", at("Namespace inkwell", "metadata/name", "other"), "is not the one"),
    (
        "namespace_enforces_pod_security", "cpu",
        at("Namespace inkwell", "metadata/labels/pod-security.kubernetes.io~enforce", "baseline"), "not restricted",
    ),
    ("selectors_find_pods", "cpu", at(WORKER, "spec/selector/matchLabels/inkwell~group", "x"), "its own pods"),
    ("selectors_find_pods", "cpu", at(WORKER, "spec/selector/matchLabels/inkwell~group"), "pods of others"),
    ("selectors_find_pods", "cpu", at("Service inkwell", "spec/selector/app", "x"), "leads to no pod"),
    ("selectors_find_pods", "cpu", at("NetworkPolicy inkwell-worker", "spec/podSelector/matchLabels/a", "b"), "no pod"),
    ("services_lead_to_ports", "cpu", at("Service inkwell", "spec/ports/0/targetPort", "web"), "no port web"),
    ("services_lead_to_ports", "cpu", at(SERVICE, "spec/ports/0/port", 80), "listens on 8080"),
    ("references_exist", "cpu", at(WORKER, f"{POD}/volumes/4/configMap/name", "absent"), "ConfigMap absent"),
    ("references_exist", "cpu", at(FRONT, f"{POD}/volumes/2/secret/secretName", "absent"), "Secret absent"),
    ("references_exist", "cpu", without("ServiceAccount inkwell-gateway"), "ServiceAccount inkwell-gateway"),
    ("references_exist", "posting-bot", without("PersistentVolumeClaim inkwell-bot"), "PersistentVolumeClaim"),
    ("references_exist", "cpu", at(WORKER, f"{POD}/volumes/1"), "mounts run, which is no volume"),
    ("references_exist", "cpu", at(WORKER, f"{POD}/volumes/+", {"name": "spare", "emptyDir": {}}), "used nowhere"),
    ("references_exist", "posting-bot", at(BOT, "spec/jobTemplate/" + ONE + "/envFrom/0/secretRef/name", "x"), "Secret x"),
    (
        "secrets_are_not_in_files", "posting-bot",
        at(BOT, "spec/jobTemplate/" + ONE + "/env/+", {"name": "INKWELL_MASTODON_TOKEN", "value": "t"}), "has its value",
    ),
    ("policies_cover_every_pod", "cpu", without("NetworkPolicy inkwell-nothing"), "no policy refuses"),
    ("policies_cover_every_pod", "cpu", without("NetworkPolicy inkwell-worker"), "no policy of its own"),
    ("policies_cover_every_pod", "cpu", at("NetworkPolicy inkwell-gateway", "spec/policyTypes/0"), "direction open"),
    ("torchserve_stays_inside", "cpu", at("NetworkPolicy inkwell-worker", "spec/ingress/0/from"), "others than the gateway"),
    ("torchserve_stays_inside", "cpu", at("NetworkPolicy inkwell-worker", "spec/ingress/1/ports/+", {"port": 8081}), "others"),
    ("torchserve_stays_inside", "cpu", at("NetworkPolicy inkwell-worker", "spec/egress/+", {}), "lets workers out"),
    ("torchserve_stays_inside", "cpu", at(SERVICE, "spec/clusterIP"), "not headless"),
    ("torchserve_stays_inside", "cpu", at(SERVICE, "spec/type", "LoadBalancer"), "to the outside"),
    ("evictions_are_bounded", "cpu", without("PodDisruptionBudget inkwell-worker-prose"), "has 0 budgets"),
    ("evictions_are_bounded", "cpu", twice("PodDisruptionBudget inkwell-worker-prose", "more"), "has 2 budgets"),
    (
        "evictions_are_bounded", "cpu",
        at("PodDisruptionBudget inkwell-gateway", "spec/unhealthyPodEvictionPolicy"), "blocks the drain",
    ),
    ("evictions_are_bounded", "cpu", at("PodDisruptionBudget inkwell-gateway", "spec/maxUnavailable", 0), "ever be drained"),
    ("gateway_knows_where_models_are", "cpu", without("Deployment inkwell-worker-souls"), "souls: no group serves it"),
    ("gateway_knows_where_models_are", "cpu", at(FRONT, f"{ONE}/env/4/value", "false"), "for one machine"),
    ("gateway_knows_where_models_are", "cpu", at(FRONT, f"{ONE}/env/2/value", "{}"), "INKWELL_MODEL_INFERENCE"),
    ("gateway_knows_where_models_are", "cpu", at(FRONT, f"{ONE}/env/3/value", "{}"), "INKWELL_MODEL_MANAGEMENT"),
    (
        "gateway_knows_where_models_are", "cpu",
        at("ConfigMap inkwell-models", "data/models.toml", '[models.souls]\nfamily = "souls"'), "prose: is served and not",
    ),
    (
        "gateway_knows_where_models_are", "cpu",
        at("ConfigMap inkwell-worker-names", "data/models.toml", '[models.prose]\nfamily = "prose"'), "is served by",
    ),
    ("scalers_have_targets", "keda", without("Deployment inkwell-worker-prose"), "no Deployment inkwell-worker-prose"),
    ("scalers_have_targets", "keda", at(WORKER, "spec/replicas", 1), "sets inkwell-worker-prose back to 1"),
    ("scalers_have_targets", "keda", at(SCALED, "spec/maxReplicaCount", 1), "scales from 1 to 1"),
    ("scalers_have_targets", "keda", twice(SCALED, "more"), "has 2 autoscalers"),
    ("scalers_have_targets", "hpa", without("HorizontalPodAutoscaler inkwell-worker-prose"), "nobody says how many"),
    (
        "the_front_never_stands_alone", "cpu",
        at("HorizontalPodAutoscaler inkwell-gateway", "spec/minReplicas", 1), "one gateway is no gateway",
    ),
    (
        "shrinking_is_slow", "keda",
        at(SCALED, "spec/advanced/horizontalPodAutoscalerConfig/behavior/scaleDown/stabilizationWindowSeconds", 0),
        "takes pods away",
    ),
    (
        "shrinking_is_slow", "hpa",
        at("HorizontalPodAutoscaler inkwell-worker-prose", "spec/behavior/scaleUp/stabilizationWindowSeconds", 300),
        "waits before",
    ),
    ("keda_asks_for_the_demand_and_falls_back", "keda", at(SCALED, "spec/fallback"), "without Prometheus"),
    ("keda_asks_for_the_demand_and_falls_back", "keda", at(SCALED, "spec/fallback/replicas", 99), "may not have"),
    ("keda_asks_for_the_demand_and_falls_back", "keda", at(SCALED, "spec/triggers/0/metricType", "Value"), "averaged"),
    ("keda_asks_for_the_demand_and_falls_back", "keda", at(SCALED, "spec/triggers/0/metadata/threshold", "0"), "threshold"),
    ("keda_asks_for_the_demand_and_falls_back", "keda", at(SCALED, "spec/triggers/0"), "what waits"),
    ("queries_ask_for_what_is_measured", "keda", queried(0, "inkwell_queue_jobs", "inkwell_queue_length"), "not measured"),
    ("queries_ask_for_what_is_measured", "keda", queried(0, "inkwell_inflight_jobs", "inkwell_jobs_total"), "only ever grows"),
    (
        "queries_ask_for_what_is_measured", "keda",
        queried(0, "inkwell_queue_jobs", "ts_queue_latency_microseconds"), "only ever grows",
    ),
    ("queries_ask_for_what_is_measured", "keda", queried(1, "rate(", "avg("), "only ever grows"),
    ("queries_ask_for_what_is_measured", "keda", queried(0, '"prose"', '"verse"'), "asks about verse"),
    ("the_bot_posts_once", "posting-bot", at(BOT, "spec/concurrencyPolicy", "Allow"), "two at a time"),
    ("the_bot_posts_once", "posting-bot", at(BOT, "spec/successfulJobsHistoryLimit", 3), "keeps other pods"),
    ("the_bot_posts_once", "posting-bot", at(BOT, "spec/jobTemplate/spec/backoffLimit", 0), "not tried"),
    (
        "the_bot_posts_once", "posting-bot",
        at(BOT, "spec/jobTemplate/" + POD + "/volumes/0", {"name": "history", "emptyDir": {}}), "forgets",
    ),
    ("training_pods_find_each_other", "training", at(JOB, "spec/completionMode"), "no numbers"),
    ("training_pods_find_each_other", "training", at(JOB, "spec/parallelism", 1), "do not run together"),
    ("training_pods_find_each_other", "training", at(JOB, f"{ONE}/args/4", "3"), "another number of nodes"),
    ("training_pods_find_each_other", "training", at(JOB, f"{POD}/subdomain", "other"), "no pod of its own"),
    (
        "training_pods_find_each_other", "training",
        at("Service inkwell-training", "spec/publishNotReadyAddresses", False), "nobody names its pods",
    ),
    ("training_pods_find_each_other", "training", at(JOB, f"{ONE}/env/0"), "does not know its number"),
    ("training_keeps_its_checkpoints", "training", at(JOB, f"{ONE}/workingDir"), "restart does not find"),
    ("training_keeps_its_checkpoints", "training", at(JOB, f"{ONE}/workingDir", "/tmp"), "restart does not find"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "overlay", "change", "complaint"), MUTATIONS)
def test_rule_notices(rule: str, overlay: str, change: Change, complaint: str) -> None:
    things = copy.deepcopy(TREE.composed(overlay))
    change(things)
    (chosen,) = [one for one in RULES if one.__name__ == rule]
    found = list(chosen(Cluster(things)))
    assert any(complaint in said for said in found), found


def test_every_rule_is_broken_by_a_mutation() -> None:
    assert {rule for rule, *_ in MUTATIONS} == {rule.__name__ for rule in RULES}
