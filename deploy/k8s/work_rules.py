"""What scales, and what runs to an end: autoscalers, the posting bot, training."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator

from deploy.k8s import link_rules, pod_rules
from deploy.k8s.cluster import Cluster, called
from deploy.k8s.quantities import quantity

Rule = Callable[[Cluster], Iterator[str]]
_SCALERS = ("HorizontalPodAutoscaler", "ScaledObject")
_NAME = re.compile(r"\b(?:inkwell|ts)_\w+")
_MODELS = re.compile(r'model=~"([^"]*)"')


def scalers_have_targets(cluster: Cluster) -> Iterator[str]:
    """Each scales one Deployment that leaves the number to it, and can move in both directions."""
    targets: Counter[str] = Counter()
    deployments = {thing["metadata"]["name"]: thing for thing in cluster.of("Deployment")}
    for thing in cluster.of(*_SCALERS):
        spec = thing["spec"]
        name = spec["scaleTargetRef"]["name"]
        targets[name] += 1
        target = deployments.get(name)
        if target is None:
            yield f"{called(thing)}: there is no Deployment {name}"
        elif "replicas" in target["spec"]:
            yield f"{called(thing)}: every apply sets {name} back to {target['spec']['replicas']}"
        low = spec.get("minReplicas", spec.get("minReplicaCount", 0))
        high = spec.get("maxReplicas", spec.get("maxReplicaCount", 0))
        if not 1 <= low < high:
            yield f"{called(thing)}: scales from {low} to {high}"
    yield from (f"{name}: has {count} autoscalers" for name, count in targets.items() if count > 1)
    for name, target in deployments.items():
        if "replicas" not in target["spec"] and name not in targets:
            yield f"Deployment {name}: nobody says how many pods it has"


def the_front_never_stands_alone(cluster: Cluster) -> Iterator[str]:
    for thing in cluster.of(*_SCALERS):
        if thing["spec"]["scaleTargetRef"]["name"] == "inkwell-gateway" and thing["spec"]["minReplicas"] < 2:
            yield f"{called(thing)}: one gateway is no gateway while its node is drained"


def shrinking_is_slow(cluster: Cluster) -> Iterator[str]:
    for thing in cluster.of(*_SCALERS):
        spec = thing["spec"]
        config = spec.get("advanced", {}).get("horizontalPodAutoscalerConfig", {})
        behavior = spec.get("behavior", config.get("behavior", {}))
        if behavior.get("scaleDown", {}).get("stabilizationWindowSeconds", 300) < 300:
            yield f"{called(thing)}: takes pods away that the next minute needs"
        if behavior.get("scaleUp", {}).get("stabilizationWindowSeconds", 0) > 60:
            yield f"{called(thing)}: waits before it adds pods"


def keda_asks_for_the_demand_and_falls_back(cluster: Cluster) -> Iterator[str]:
    for thing in cluster.of("ScaledObject"):
        spec = thing["spec"]
        if not spec.get("fallback", {}).get("replicas"):
            yield f"{called(thing)}: does not say what to do without Prometheus"
        elif not spec["minReplicaCount"] <= spec["fallback"]["replicas"] <= spec["maxReplicaCount"]:
            yield f"{called(thing)}: falls back to a number that it may not have"
        kinds = [trigger.get("metricType", "AverageValue") for trigger in spec["triggers"]]
        if "AverageValue" not in kinds:
            yield f"{called(thing)}: KEDA refuses a fallback without a metric that is averaged over pods"
        for trigger in spec["triggers"]:
            if quantity(trigger["metadata"].get("threshold", 0)) <= 0:
                yield f"{called(thing)}: trigger {trigger.get('name')} has no threshold"
        if "inkwell_queue_jobs" not in str(spec["triggers"]):
            yield f"{called(thing)}: does not look at what waits"


def queries(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """(who asks, PromQL) of every autoscaler."""
    for thing in cluster.of("ScaledObject"):
        for trigger in thing["spec"]["triggers"]:
            if "query" in trigger["metadata"]:
                yield called(thing), trigger["metadata"]["query"]


def queries_ask_for_what_is_measured(known: frozenset[str]) -> Rule:
    """A rule: queries use metrics in `known` only, and models that are served; counters only as rates."""

    def queries_ask_for_what_is_measured(cluster: Cluster) -> Iterator[str]:
        files = [thing.get("data", {}).get("models.toml", "") for thing in cluster.of("ConfigMap")]
        served = {
            name for text in files for name in re.findall(r"^\[models\.([\w-]+)\]$", text, re.MULTILINE)
        }
        for who, query in queries(cluster):
            for name in _NAME.findall(query):
                plain = re.sub(r"_(bucket|sum|count)$", "", name)
                if name not in known and plain not in known:
                    yield f"{who}: {name} is not measured"
                counter = name.endswith(("_total", "_bucket", "_sum", "_count")) or name.startswith("ts_")
                if counter and not re.search(rf"(rate|increase)\(\s*{name}\b", query):
                    yield f"{who}: {name} only ever grows, and is used as if it could fall"
            for model in (name for found in _MODELS.findall(query) for name in found.split("|")):
                if model not in served:
                    yield f"{who}: asks about {model}, which is not served"

    return queries_ask_for_what_is_measured


def the_bot_posts_once(cluster: Cluster) -> Iterator[str]:
    for thing in cluster.of("CronJob"):
        spec, job = thing["spec"], thing["spec"]["jobTemplate"]["spec"]
        if spec.get("concurrencyPolicy") != "Forbid":
            yield f"{called(thing)}: two at a time would not know of each other's posts"
        if (spec.get("successfulJobsHistoryLimit"), spec.get("failedJobsHistoryLimit")) != (0, 3):
            yield f"{called(thing)}: keeps other pods than the last three that failed"
        if job.get("backoffLimit") != 3 or job["template"]["spec"].get("restartPolicy") != "OnFailure":
            yield f"{called(thing)}: a platform that is down is not tried three times more"
        claims = [
            volume for volume in job["template"]["spec"]["volumes"] if "persistentVolumeClaim" in volume
        ]
        if not claims:
            yield f"{called(thing)}: forgets what it has posted"


def training_pods_find_each_other(cluster: Cluster) -> Iterator[str]:
    for pod in cluster.pods:
        arguments = [str(word) for container in pod.main for word in container.get("args", [])]
        if pod.owner["kind"] != "Job" or "torch.distributed.run" not in arguments:
            continue
        spec = pod.owner["spec"]
        nodes = spec.get("completions")
        if spec.get("completionMode") != "Indexed" or spec.get("parallelism") != nodes:
            yield f"{pod.name}: its pods have no numbers, or do not run together"
        if arguments[arguments.index("--nnodes") + 1] != str(nodes):
            yield f"{pod.name}: waits for another number of nodes than there are"
        meeting = arguments[arguments.index("--master-addr") + 1]
        subdomain = pod.spec.get("subdomain")
        if meeting != f"{pod.owner['metadata']['name']}-0.{subdomain}":
            yield f"{pod.name}: meets at {meeting}, which is no pod of its own"
        names = [
            thing
            for thing in cluster.of("Service")
            if thing["metadata"]["name"] == subdomain and thing["spec"].get("clusterIP") == "None"
        ]
        if not names or names[0]["spec"].get("publishNotReadyAddresses") is not True:
            yield f"{pod.name}: nobody names its pods before they are ready"
        if "$(NODE)" in arguments and not any(
            item["name"] == "NODE" and "job-completion-index" in str(item.get("valueFrom"))
            for container in pod.main
            for item in container.get("env", [])
        ):
            yield f"{pod.name}: does not know its number"


def training_keeps_its_checkpoints(cluster: Cluster) -> Iterator[str]:
    for pod in cluster.pods:
        for container in pod.main:
            if "training" not in container.get("args", []) or "train" not in container["args"]:
                continue
            kept = {volume["name"] for volume in pod.spec["volumes"] if "persistentVolumeClaim" in volume}
            places = {m["mountPath"] for m in container["volumeMounts"] if m["name"] in kept}
            if container.get("workingDir") not in places:
                yield f"{pod.name}: writes runs/ where a restart does not find it"


def all_rules(metrics: frozenset[str]) -> tuple[Rule, ...]:
    """Every rule; `metrics` are the names that the gateway exports, as docs/metrics.md lists them."""
    return (
        pod_rules.pods_are_restricted,
        pod_rules.roots_are_read_only,
        pod_rules.models_are_read_only_where_they_are_served,
        pod_rules.nobody_gets_a_token,
        pod_rules.services_do_not_set_our_variables,
        pod_rules.resources_are_bounded,
        pod_rules.gpus_are_whole_and_found,
        pod_rules.what_stays_is_watched,
        pod_rules.work_in_hand_is_finished,
        pod_rules.what_stays_is_spread,
        pod_rules.images_are_pinned,
        link_rules.names_are_valid_and_once,
        link_rules.namespace_enforces_pod_security,
        link_rules.selectors_find_pods,
        link_rules.services_lead_to_ports,
        link_rules.references_exist,
        link_rules.secrets_are_not_in_files,
        link_rules.policies_cover_every_pod,
        link_rules.torchserve_stays_inside,
        link_rules.evictions_are_bounded,
        link_rules.gateway_knows_where_models_are,
        scalers_have_targets,
        the_front_never_stands_alone,
        shrinking_is_slow,
        keda_asks_for_the_demand_and_falls_back,
        queries_ask_for_what_is_measured(metrics),
        the_bot_posts_once,
        training_pods_find_each_other,
        training_keeps_its_checkpoints,
    )
