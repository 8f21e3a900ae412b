"""What objects say of each other must be true: selectors, ports, references, policies, the models' whereabouts."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

from deploy.k8s import bot, gateway, workers
from deploy.k8s.cluster import Cluster, called, environment_of
from deploy.k8s.parts import Object
from deploy.models_file import ModelsFileError, loads

# Made by hand and never in a file: docs/kubernetes.md says how.
SECRETS = frozenset({gateway.KEYS, bot.SECRET})
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def names_are_valid_and_once(cluster: Cluster) -> Iterator[str]:
    counted = Counter(called(thing) for thing in cluster.objects)
    yield from (f"{name}: is there {count} times" for name, count in counted.items() if count > 1)
    spaces = {thing["metadata"].get("namespace") for thing in cluster.objects if thing["kind"] != "Namespace"}
    if len(spaces) != 1:
        yield f"objects are in several namespaces: {sorted(map(str, spaces))}"
    spaces |= cluster.names("Namespace")
    if len(spaces) > 1 and cluster.names("Namespace"):
        yield f"the namespace {sorted(map(str, spaces))} is not the one that objects are in"
    for thing in cluster.objects:
        if not _LABEL.fullmatch(thing["metadata"]["name"]):
            yield f"{called(thing)}: its name is no DNS label"


def namespace_enforces_pod_security(cluster: Cluster) -> Iterator[str]:
    for thing in cluster.of("Namespace"):
        if thing["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"{called(thing)}: lets pods in that are not restricted"


def selectors_find_pods(cluster: Cluster) -> Iterator[str]:
    """A Deployment selects its own pods; Services, budgets and policies select some."""
    for thing in cluster.of("Deployment"):
        chosen, pod = thing["spec"]["selector"]["matchLabels"], next(
            pod for pod in cluster.pods if pod.owner is thing
        )  # fmt: skip
        if not chosen.items() <= pod.labels.items():
            yield f"{called(thing)}: does not select its own pods"
        if [other.owner for other in cluster.selected(chosen) if other.stays] != [thing]:
            yield f"{called(thing)}: selects pods of others"
    for thing in cluster.of("Service"):
        if not cluster.selected(thing["spec"].get("selector")):
            yield f"{called(thing)}: leads to no pod"
    for thing in cluster.of("PodDisruptionBudget", "NetworkPolicy"):
        key = "selector" if thing["kind"] == "PodDisruptionBudget" else "podSelector"
        if not cluster.selected(thing["spec"][key].get("matchLabels")):
            yield f"{called(thing)}: is for no pod"


def services_lead_to_ports(cluster: Cluster) -> Iterator[str]:
    for thing in cluster.of("Service"):
        for pod in cluster.selected(thing["spec"].get("selector")):
            held = {
                key: port["containerPort"]
                for container in pod.main
                for port in container.get("ports", [])
                for key in (port.get("name"), port["containerPort"])
            }
            for port in thing["spec"]["ports"]:
                target = port.get("targetPort", port["port"])
                if target not in held:
                    yield f"{called(thing)}: {pod.name} has no port {target}"
                elif thing["spec"].get("clusterIP") == "None" and held[target] != port["port"]:
                    # A headless Service is only a name: nobody translates ports.
                    yield f"{called(thing)}: says {port['port']}, but {pod.name} listens on {held[target]}"


def references_exist(cluster: Cluster) -> Iterator[str]:
    """ConfigMaps, Secrets, claims and accounts that pods name; every mount has its volume."""
    known = {
        "ConfigMap": cluster.names("ConfigMap"),
        "Secret": set(SECRETS) | cluster.names("Secret"),
        "PersistentVolumeClaim": cluster.names("PersistentVolumeClaim"),
        "ServiceAccount": cluster.names("ServiceAccount"),
    }
    # The volume of the models is made by another overlay than the one that fills it.
    known["PersistentVolumeClaim"].add("inkwell-models")
    for pod in cluster.pods:
        for kind, name in _references(pod.spec):
            if name not in known[kind]:
                yield f"{pod.name}: {kind} {name} does not exist"
        volumes = Counter(volume["name"] for volume in pod.spec.get("volumes", []))
        used = {mount["name"] for container in pod.containers for mount in container.get("volumeMounts", [])}
        yield from (f"{pod.name}: mounts {name}, which is no volume" for name in used - volumes.keys())
        yield from (f"{pod.name}: volume {name} is used nowhere" for name in volumes.keys() - used)


def _references(spec: Object) -> Iterator[tuple[str, str]]:
    yield "ServiceAccount", spec.get("serviceAccountName", "default")
    for volume in spec.get("volumes", []):
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"]
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
    for container in [*spec.get("initContainers", []), *spec.get("containers", [])]:
        sources = [item.get("valueFrom", {}) for item in container.get("env", [])]
        for source in [*sources, *container.get("envFrom", [])]:
            for key, kind in (
                ("secretKeyRef", "Secret"),
                ("secretRef", "Secret"),
                ("configMapKeyRef", "ConfigMap"),
            ):
                if key in source:
                    yield kind, source[key]["name"]


def secrets_are_not_in_files(cluster: Cluster) -> Iterator[str]:
    yield from (f"{called(thing)}: is a secret in a file" for thing in cluster.of("Secret"))
    for pod in cluster.pods:
        for container in pod.containers:
            for name in environment_of(container):
                if re.search(r"TOKEN|SECRET|PASSWORD|API_KEY|WEBHOOK", name):
                    yield f"{pod.name}: {name} has its value in the manifest"


def policies_cover_every_pod(cluster: Cluster) -> Iterator[str]:
    """All traffic is refused, and every pod has a policy that says what is let through."""
    policies = list(cluster.of("NetworkPolicy"))
    if cluster.names("Namespace") and not any(
        not thing["spec"]["podSelector"].get("matchLabels")
        and set(thing["spec"]["policyTypes"]) == {"Ingress", "Egress"}
        and not thing["spec"].get("ingress")
        and not thing["spec"].get("egress")
        for thing in policies
    ):
        yield "no policy refuses what no other allows"
    for thing in policies:
        if set(thing["spec"].get("policyTypes", [])) != {"Ingress", "Egress"}:
            yield f"{called(thing)}: leaves a direction open"
    for pod in cluster.pods:
        if pod.component == "fill":
            continue  # it speaks to nobody, and the refusal of everything covers it
        chosen = [thing["spec"]["podSelector"].get("matchLabels") for thing in policies]
        if not any(labels and labels.items() <= pod.labels.items() for labels in chosen):
            yield f"{pod.name}: has no policy of its own"


def torchserve_stays_inside(cluster: Cluster) -> Iterator[str]:
    """Only the gateway reaches inference and management; workers reach nobody."""
    front = {"app.kubernetes.io/component": "gateway"}.items()
    for thing in cluster.of("Service"):
        inside = any(pod.component == "worker" for pod in cluster.selected(thing["spec"].get("selector")))
        if inside and thing["spec"].get("clusterIP") != "None":
            yield f"{called(thing)}: is not headless, so the gateway cannot see its pods"
        if inside and thing["spec"].get("type", "ClusterIP") != "ClusterIP":
            yield f"{called(thing)}: shows TorchServe to the outside"
    for pod in cluster.pods:
        if pod.component != "worker":
            continue
        for thing in cluster.of("NetworkPolicy"):
            chosen = thing["spec"]["podSelector"].get("matchLabels") or {}
            if not chosen.items() <= pod.labels.items():
                continue
            if thing["spec"].get("egress"):
                yield f"{called(thing)}: lets workers out"
            for rule in thing["spec"].get("ingress", []):
                numbers = {port.get("port") for port in rule.get("ports", [])}
                near = [peer.get("podSelector", {}).get("matchLabels", {}) for peer in rule.get("from", [])]
                only_front = bool(near) and all(front <= labels.items() for labels in near)
                if not only_front and (not numbers or numbers - {workers.METRICS, "metrics"}):
                    yield f"{called(thing)}: lets others than the gateway reach {pod.name}"


def evictions_are_bounded(cluster: Cluster) -> Iterator[str]:
    budgets = list(cluster.of("PodDisruptionBudget"))
    for pod in cluster.pods:
        if not pod.stays:
            continue
        held = [
            thing
            for thing in budgets
            if thing["spec"]["selector"]["matchLabels"].items() <= pod.labels.items()
        ]
        if len(held) != 1:
            yield f"{pod.name}: has {len(held)} budgets; it needs one"
    for thing in budgets:
        if thing["spec"].get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
            yield f"{called(thing)}: a sick pod blocks the drain of its node"
        if thing["spec"].get("maxUnavailable") in (None, 0, "0", "0%"):
            yield f"{called(thing)}: no node can ever be drained"


def gateway_knows_where_models_are(cluster: Cluster) -> Iterator[str]:
    """Every model of the gateway's file is served by one group, and is asked for there on the right ports."""
    front = next((pod for pod in cluster.pods if pod.component == "gateway"), None)
    if front is None:
        return
    files = {thing["metadata"]["name"]: thing.get("data", {}) for thing in cluster.of("ConfigMap")}
    served: dict[str, str] = {}
    for pod in cluster.pods:
        if pod.component == "worker":
            for model in _models(files.get(pod.owner["metadata"]["name"], {})):
                if model in served:
                    yield f"{model}: is served by {served[model]} and by {pod.owner['metadata']['name']}"
                served[model] = pod.owner["metadata"]["name"]
    wanted = _models(files.get(gateway.MODELS, {}))
    yield from (f"{model}: no group serves it" for model in wanted if model not in served)
    yield from (
        f"{model}: is served and not in the gateway's file" for model in served if model not in wanted
    )
    known = environment_of(front.main[0])
    if known.get("INKWELL_DISCOVER") != "true":
        yield "the gateway takes a Service of many pods for one machine"
    for variable, port in (
        ("INKWELL_MODEL_INFERENCE", workers.INFERENCE),
        ("INKWELL_MODEL_MANAGEMENT", workers.MANAGEMENT),
    ):
        places = json.loads(known.get(variable, "{}"))
        for model in wanted:
            urls = [urlsplit(url) for url in places.get(model, [])]
            if [(url.hostname, url.port) for url in urls] != [(served.get(model), port)]:
                yield f"{model}: {variable} does not lead to its group"


def _models(data: dict[str, str]) -> list[str]:
    try:
        return list(loads(data.get("models.toml", "")).models)
    except ModelsFileError:
        return []
