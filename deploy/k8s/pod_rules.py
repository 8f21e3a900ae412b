"""What every pod must hold to: confined, bounded, watched, and given time to finish."""

from __future__ import annotations

import re
from collections.abc import Iterator

from deploy.k8s.cluster import Cluster, Pod, environment_of, sleep_of
from deploy.k8s.quantities import quantity

_GPU = "nvidia.com/gpu"
_PINNED = re.compile(r"[^\s@]+(@sha256:[0-9a-f]{64}|:v?\d+\.\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?)")
# Volume kinds of the restricted Pod Security Standard, and images, which it has allowed since they came.
_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
} | {
    "secret",
    "image",
}


def pods_are_restricted(cluster: Cluster) -> Iterator[str]:
    """The restricted Pod Security Standard, for init containers as for others."""
    for pod in cluster.pods:
        spec, security = pod.spec, pod.spec.get("securityContext", {})
        yield from (f"{pod.name}: {key}" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key))
        if security.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{pod.name}: has no seccomp profile"
        for volume in spec.get("volumes", []):
            if not set(volume) - {"name"} <= _VOLUMES:
                yield f"{pod.name}: volume {volume['name']} is of a kind that is not allowed"
        for container in pod.containers:
            own = container.get("securityContext", {})
            where = f"{pod.name}, container {container['name']}"
            if own.get("runAsNonRoot", security.get("runAsNonRoot")) is not True:
                yield f"{where}: may run as root"
            if not own.get("runAsUser", security.get("runAsUser")):
                yield f"{where}: has no user of its own"
            if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
                yield f"{where}: may gain privileges"
            if own.get("capabilities", {}).get("drop") != ["ALL"] or own["capabilities"].get("add"):
                yield f"{where}: has capabilities"
            if any("hostPort" in port for port in container.get("ports", [])):
                yield f"{where}: takes a port of its node"


def roots_are_read_only(cluster: Cluster) -> Iterator[str]:
    """Nothing is written but to volumes, and /tmp is one."""
    for pod in cluster.pods:
        for container in pod.containers:
            where = f"{pod.name}, container {container['name']}"
            if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
                yield f"{where}: its root can be written"
            if not any(mount["mountPath"] == "/tmp" for mount in container.get("volumeMounts", [])):  # noqa: S108
                yield f"{where}: has no /tmp"


def models_are_read_only_where_they_are_served(cluster: Cluster) -> Iterator[str]:
    for pod in cluster.pods:
        for container in pod.main if pod.component == "worker" else []:
            places = [mount for mount in container["volumeMounts"] if mount["mountPath"] == "/models"]
            if [place.get("readOnly") for place in places] != [True]:
                yield f"{pod.name}: its models can be changed, or are not there"


def nobody_gets_a_token(cluster: Cluster) -> Iterator[str]:
    for pod in cluster.pods:
        if pod.spec.get("automountServiceAccountToken") is not False:
            yield f"{pod.name}: mounts a token of the cluster"
    for thing in cluster.of("ServiceAccount"):
        if thing.get("automountServiceAccountToken") is not False:
            yield f"ServiceAccount {thing['metadata']['name']}: gives tokens"


def services_do_not_set_our_variables(cluster: Cluster) -> Iterator[str]:
    """A Service named `inkwell` would set INKWELL_PORT to an address, which the gateway refuses to start with."""
    for pod in cluster.pods:
        if pod.spec.get("enableServiceLinks") is not False:
            yield f"{pod.name}: gets variables such as INKWELL_PORT from the cluster's Services"


def resources_are_bounded(cluster: Cluster) -> Iterator[str]:
    """Memory and disk: as much asked for as is allowed. Nothing is asked for beyond its limit."""
    for pod in cluster.pods:
        for container in pod.containers:
            where = f"{pod.name}, container {container['name']}"
            held = container.get("resources", {})
            wanted, allowed = held.get("requests", {}), held.get("limits", {})
            if "cpu" not in wanted:
                yield f"{where}: asks for no processor time"
            for name in ("memory", "ephemeral-storage"):
                if name not in wanted or quantity(wanted[name]) != quantity(allowed.get(name, 0)):
                    yield f"{where}: {name} has no limit, or another than it asks for"
            for name in wanted.keys() & allowed.keys():
                if quantity(wanted[name]) > quantity(allowed[name]):
                    yield f"{where}: asks for more {name} than it may have"
        yield from _volumes_fit(pod)


def _volumes_fit(pod: Pod) -> Iterator[str]:
    in_memory = 0
    for volume in pod.spec.get("volumes", []):
        if "emptyDir" not in volume:
            continue
        size = (volume["emptyDir"] or {}).get("sizeLimit")
        if size is None:
            yield f"{pod.name}: volume {volume['name']} grows without end"
        elif volume["emptyDir"].get("medium") == "Memory":
            in_memory += int(quantity(size))
    limits = [container.get("resources", {}).get("limits", {}) for container in pod.main]
    if in_memory >= sum(quantity(limit.get("memory", 0)) for limit in limits):
        yield f"{pod.name}: volumes in memory may take all of it"


def gpus_are_whole_and_found(cluster: Cluster) -> Iterator[str]:
    """A GPU is asked for as a whole, where there are GPUs, and not once more during a roll-out."""
    for pod in cluster.pods:
        if not pod.gpus:
            continue
        for container in pod.containers:
            held = container.get("resources", {})
            wanted, allowed = (held.get(part, {}).get(_GPU) for part in ("requests", "limits"))
            if wanted != allowed or (allowed is not None and not str(allowed).isdigit()):
                yield f"{pod.name}: GPUs: asks for {wanted}, may have {allowed}; both must be one whole number"
        if not any(entry.get("key") == _GPU for entry in pod.spec.get("tolerations", [])):
            yield f"{pod.name}: is kept off nodes with GPUs"
        if not pod.spec.get("nodeSelector") and not pod.spec.get("affinity"):
            yield f"{pod.name}: may land where no GPU is"
        if pod.stays and pod.owner["spec"]["strategy"]["rollingUpdate"].get("maxSurge") != 0:
            yield f"{pod.name}: needs GPUs for a pod more than it has while it is rolled out"
        if not any(mount["mountPath"] == "/dev/shm" for mount in pod.main[0]["volumeMounts"]):  # noqa: S108
            yield f"{pod.name}: has no /dev/shm beyond 64 MiB"


def what_stays_is_watched(cluster: Cluster) -> Iterator[str]:
    """Workers are ready when their models are; only the JVM's silence, and a long one, ends them."""
    for pod in cluster.pods:
        if not pod.stays:
            continue
        for container in pod.main:
            ports = {port["name"] for port in container.get("ports", [])}
            for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
                probe = container.get(kind)
                if probe is None:
                    yield f"{pod.name}: has no {kind}"
                elif "httpGet" in probe and probe["httpGet"]["port"] not in ports:
                    yield f"{pod.name}: its {kind} asks a port that it has not"
            if pod.component == "worker":
                yield from _worker_probes(pod.name, container)


def _worker_probes(name: str, container: dict[str, object]) -> Iterator[str]:
    def probe(kind: str) -> dict[str, object]:
        held = container.get(kind)
        return held if isinstance(held, dict) else {}

    def patience(kind: str) -> int:
        held = probe(kind)
        return int(str(held.get("periodSeconds", 10))) * int(str(held.get("failureThreshold", 3)))

    for kind in ("startupProbe", "readinessProbe"):
        if "deploy.worker" not in str(probe(kind).get("exec")):
            yield f"{name}: its {kind} does not ask whether every model is ready"
    if "httpGet" not in probe("livenessProbe"):
        yield f"{name}: its livenessProbe asks more than whether the JVM answers"
    if patience("startupProbe") < 300:
        yield f"{name}: is killed before large models have loaded"
    if patience("livenessProbe") < 120:
        yield f"{name}: is killed for a pause"


def work_in_hand_is_finished(cluster: Cluster) -> Iterator[str]:
    """Grace is longer than the wait before the stop signal and the longest request."""
    longest = [
        int(environment_of(container)["INKWELL_DEADLINE_S"])
        for pod in cluster.pods
        for container in pod.main
        if "INKWELL_DEADLINE_S" in environment_of(container)
    ]
    for pod in cluster.pods:
        if not pod.stays:
            continue
        grace = pod.spec.get("terminationGracePeriodSeconds", 30)
        for container in pod.main:
            sleep, request = sleep_of(container), max(longest, default=0)
            if pod.component == "worker":
                if sleep < request:
                    yield f"{pod.name}: stops after {sleep} s; a request may take {request} s"
                if grace <= sleep:
                    yield f"{pod.name}: is killed after {grace} s, while it waits {sleep} s"
            else:
                drain = int(environment_of(container).get("INKWELL_DRAIN_S", 30))
                if drain < request:
                    yield f"{pod.name}: drains for {drain} s; a request may take {request} s"
                if sleep == 0:
                    yield f"{pod.name}: refuses requests that are still sent to it while it stops"
                if grace <= sleep + drain:
                    yield f"{pod.name}: is killed after {grace} s; it needs {sleep} s and {drain} s"


def what_stays_is_spread(cluster: Cluster) -> Iterator[str]:
    for pod in cluster.pods:
        if not pod.stays:
            continue
        found = pod.spec.get("topologySpreadConstraints", [])
        keys = {constraint["topologyKey"] for constraint in found}
        if not {"topology.kubernetes.io/zone", "kubernetes.io/hostname"} <= keys:
            yield f"{pod.name}: may lie in one zone, or on one node, altogether"
        for constraint in found:
            if not constraint["labelSelector"]["matchLabels"].items() <= pod.labels.items():
                yield f"{pod.name}: is spread by labels that it has not"


def images_are_pinned(cluster: Cluster) -> Iterator[str]:
    for pod in cluster.pods:
        images = [container["image"] for container in pod.containers]
        images += [
            volume["image"]["reference"] for volume in pod.spec.get("volumes", []) if "image" in volume
        ]
        for image in images:
            if not _PINNED.fullmatch(image):
                yield f"{pod.name}: image {image} has neither a digest nor a version"
