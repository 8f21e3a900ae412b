"""What the shipped containers must hold to, as functions from the read files to complaints; no engine is needed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

# Where a container may listen for others; TorchServe's ports are not among them.
PUBLISHED = {"gateway": "8000", "grafana": "3000"}
_HOSTS = re.compile(r"\b(?:[a-z0-9-]+\.)+(?:org|com|io|net|dev)\b")


@dataclass(frozen=True)
class Files:
    """The compose file, the Dockerfiles by service, Prometheus' configuration and Grafana's source, as read."""

    root: Path
    compose: dict[str, Any]
    gpu: dict[str, Any]
    dockerfiles: Mapping[str, str]
    prometheus: dict[str, Any]
    grafana: dict[str, Any]

    @classmethod
    def of(cls, root: Path) -> Files:
        def read(name: str) -> Any:
            return yaml.safe_load((root / name).read_text(encoding="utf-8"))

        return cls(
            root,
            read("docker-compose.yml"),
            read("compose.gpu.yaml"),
            {
                name: (root / f"deploy/docker/Dockerfile.{name}").read_text(encoding="utf-8")
                for name in ("gateway", "worker")
            },
            read("deploy/monitoring/prometheus.yml"),
            read("deploy/monitoring/grafana-source.yml"),
        )

    @property
    def services(self) -> Iterator[tuple[str, dict[str, Any], str]]:
        """Name, service, and its Dockerfile (empty when the image comes from elsewhere)."""
        for name, service in self.compose["services"].items():
            yield name, service, self.dockerfiles.get(name, "")


Rule = Callable[[Files], Iterator[str]]


def user_is_not_root(files: Files) -> Iterator[str]:
    for name, service, dockerfile in files.services:
        users = re.findall(r"^USER (\S+)$", dockerfile, re.MULTILINE)
        user = str(service.get("user", users[-1] if users else "root"))
        if not re.fullmatch(r"[1-9]\d*(:\d+)?", user):
            yield f"{name}: user {user}"


def root_is_read_only(files: Files) -> Iterator[str]:
    for name, service, _ in files.services:
        if service.get("read_only") is not True:
            yield f"{name}: its root can be written"
        for mount in service.get("volumes", ()):
            source, _, options = str(mount).partition(":")
            if source.startswith((".", "/")) and not options.endswith(":ro"):
                yield f"{name}: {mount} can be written"


def nothing_is_privileged(files: Files) -> Iterator[str]:
    for name, service, _ in files.services:
        if service.get("cap_drop") != ["ALL"] or service.get("cap_add"):
            yield f"{name}: has capabilities"
        if "no-new-privileges:true" not in service.get("security_opt", ()):
            yield f"{name}: may gain privileges"
        shared = [key for key in ("network_mode", "pid", "ipc", "userns_mode") if service.get(key) == "host"]
        if shared or service.get("privileged") or "docker.sock" in str(service.get("volumes")):
            yield f"{name}: reaches into the host"


def an_init_reaps_processes(files: Files) -> Iterator[str]:
    for name, service, dockerfile in files.services:
        if service.get("init") is not True and 'ENTRYPOINT ["/usr/bin/tini", "--"]' not in dockerfile:
            yield f"{name}: has no init process"


def health_is_checked(files: Files) -> Iterator[str]:
    for name, service, dockerfile in files.services:
        own = service.get("healthcheck", {})
        in_image = re.search(r"^HEALTHCHECK .*\\\n +CMD \[", dockerfile, re.MULTILINE)
        if own.get("disable") or not (own.get("test") or in_image):
            yield f"{name}: has no health check"


def only_the_front_is_published(files: Files) -> Iterator[str]:
    for name, service, _ in files.services:
        for port in service.get("ports", ()):
            if not re.fullmatch(rf"127\.0\.0\.1:\$\{{\w+:-\d+\}}:{PUBLISHED.get(name, 'none')}", str(port)):
                yield f"{name}: publishes {port}"


def torchserve_is_on_an_inner_network(files: Files) -> Iterator[str]:
    for network in files.compose["services"]["worker"].get("networks", ["default"]):
        if (files.compose["networks"].get(network) or {}).get("internal") is not True:
            yield f"worker: is on {network}, which has a way out"


def memory_and_processes_are_limited(files: Files) -> Iterator[str]:
    for name, service, _ in files.services:
        limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
        if not limits.get("memory") or not limits.get("pids"):
            yield f"{name}: memory or processes have no limit"
        if "pids_limit" in service:
            yield f"{name}: pids_limit beside deploy.resources.limits, which compose refuses"
        if "max-size" not in service.get("logging", {}).get("options", {}):
            yield f"{name}: its log grows without end"


def scratch_space_belongs_to_the_user(files: Files) -> Iterator[str]:
    for name, service, dockerfile in files.services:
        found = re.findall(r"^USER (\S+)$", dockerfile, re.MULTILINE)
        user, _, group = str(service.get("user", found[-1] if found else "0:0")).partition(":")
        mounts = [str(mount) for mount in service.get("tmpfs", ())]
        if not any(mount.startswith("/tmp:") for mount in mounts):
            yield f"{name}: has no /tmp"
        for mount in mounts:
            if f"uid={user},gid={group}," not in mount or "size=" not in mount:
                yield f"{name}: {mount} has another owner, or no size"


def start_and_stop_are_in_order(files: Files) -> Iterator[str]:
    gateway = files.compose["services"]["gateway"]
    if gateway.get("depends_on", {}).get("worker", {}).get("condition") != "service_healthy":
        yield "gateway: does not wait for a healthy worker"
    grace = float(str(gateway.get("stop_grace_period", "10s")).removesuffix("s"))
    if grace <= float(gateway["environment"]["INKWELL_DRAIN_S"]):
        yield "gateway: is killed before it has drained"
    for name, service, _ in files.services:
        if service.get("restart") != "unless-stopped":
            yield f"{name}: stays dead after a crash"


def what_is_mounted_exists(files: Files) -> Iterator[str]:
    configs, used = files.compose["configs"], set[str]()
    for name, service, _ in files.services:
        for config in service.get("configs", ()):
            used.add(config["source"])
            if config["source"] not in configs:
                yield f"{name}: config {config['source']} is not defined"
        for mount in service.get("volumes", ()):
            source = str(mount).split(":")[0]
            if not source.startswith((".", "/")) and source not in files.compose["volumes"]:
                yield f"{name}: volume {source} is not defined"
    yield from (f"config {name} is used nowhere" for name in configs if name not in used)
    for name, config in configs.items():
        path = re.sub(r"^\$\{\w+:-(.+)\}$", r"\1", config["file"])
        if not (files.root / path).is_file():
            yield f"config {name}: {path} does not exist"


def gateway_and_worker_read_the_same_models(files: Files) -> Iterator[str]:
    for name in ("gateway", "worker"):
        service = files.compose["services"][name]
        targets = {config["source"]: config["target"] for config in service.get("configs", ())}
        if service["environment"].get("INKWELL_MODELS_FILE") != targets.get("models"):
            yield f"{name}: reads other models than are mounted"


def images_of_others_have_a_version(files: Files) -> Iterator[str]:
    for name, service, dockerfile in files.services:
        if not dockerfile and not re.search(r":v?\d+\.\d+\.\d+\}?$", service["image"]):
            yield f"{name}: image {service['image']} has no version"


def no_package_index_is_named(files: Files) -> Iterator[str]:
    for name, dockerfile in files.dockerfiles.items():
        if found := _HOSTS.findall(dockerfile):
            yield f"Dockerfile.{name}: names {', '.join(found)}"
        if re.search(r"^# *syntax=", dockerfile, re.MULTILINE):
            yield f"Dockerfile.{name}: its syntax line needs a registry"
    if not re.search(r"^ARG TORCH_INDEX=$", files.dockerfiles["worker"], re.MULTILINE):
        yield "Dockerfile.worker: TORCH_INDEX is not empty unless given"


def gpus_are_asked_for_apart(files: Files) -> Iterator[str]:
    if "devices" in str(files.compose["services"]):
        yield "docker-compose.yml: asks for devices, so a machine without them cannot start it"
    worker = files.gpu["services"]["worker"]
    devices = worker["deploy"]["resources"]["reservations"]["devices"]
    if not any({"gpu", "utility"} <= set(d["capabilities"]) and d["count"] == "all" for d in devices):
        yield "compose.gpu.yaml: does not reserve every GPU, with the means to find them"
    if (
        worker["build"]["args"]["TORCH_INDEX"] != ""
        or worker["image"] == files.compose["services"]["worker"]["image"]
    ):
        yield "compose.gpu.yaml: builds no CUDA image of its own"


def monitoring_finds_what_it_watches(files: Files) -> Iterator[str]:
    services = files.compose["services"]
    exposed = {
        f"{name}:{port}"
        for name, dockerfile in files.dockerfiles.items()
        for ports in re.findall(r"^EXPOSE (.+)$", dockerfile, re.MULTILINE)
        for port in ports.split()
    }
    near = set(services["prometheus"]["networks"])
    for job in files.prometheus["scrape_configs"]:
        for target in (target for group in job["static_configs"] for target in group["targets"]):
            if target not in exposed or not near & set(services[target.split(":")[0]]["networks"]):
                yield f"prometheus: {target} listens nowhere in reach"
    mounted = {config["target"] for config in services["prometheus"]["configs"]}
    yield from (
        f"prometheus: {path} is not mounted" for path in files.prometheus["rule_files"] if path not in mounted
    )
    if [source["url"] for source in files.grafana["datasources"]] != ["http://prometheus:9090"]:
        yield "grafana: asks another source than the Prometheus here"
    for name in ("prometheus", "grafana"):
        if services[name].get("profiles") != ["monitoring"]:
            yield f"{name}: starts unasked"


RULES: tuple[Rule, ...] = (
    user_is_not_root,
    root_is_read_only,
    nothing_is_privileged,
    an_init_reaps_processes,
    health_is_checked,
    only_the_front_is_published,
    torchserve_is_on_an_inner_network,
    memory_and_processes_are_limited,
    scratch_space_belongs_to_the_user,
    start_and_stop_are_in_order,
    what_is_mounted_exists,
    gateway_and_worker_read_the_same_models,
    images_of_others_have_a_version,
    no_package_index_is_named,
    gpus_are_asked_for_apart,
    monitoring_finds_what_it_watches,
)
