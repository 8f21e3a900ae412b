"""Rendered objects, looked at as a cluster would: who selects whom, who mounts what, who refers to what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.k8s.parts import Object

# Where the pod template of each kind stands.
_TEMPLATES = {
    "Deployment": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}


@dataclass(frozen=True)
class Pod:
    """A pod template with the object it belongs to."""

    owner: Object
    template: Object

    @property
    def name(self) -> str:
        return f"{self.owner['kind']} {self.owner['metadata']['name']}"

    @property
    def spec(self) -> Object:
        held: Object = self.template.get("spec", {})
        return held

    @property
    def labels(self) -> Mapping[str, str]:
        held: Mapping[str, str] = self.template.get("metadata", {}).get("labels", {})
        return held

    @property
    def component(self) -> str:
        return self.labels.get("app.kubernetes.io/component", "")

    @property
    def main(self) -> list[Object]:
        return list(self.spec.get("containers", []))

    @property
    def containers(self) -> list[Object]:
        return [*self.spec.get("initContainers", []), *self.main]

    @property
    def stays(self) -> bool:
        """Whether it runs until it is told to stop."""
        return bool(self.owner["kind"] == "Deployment")

    @property
    def gpus(self) -> bool:
        return any("nvidia.com/gpu" in str(container.get("resources")) for container in self.containers)


@dataclass(frozen=True)
class Cluster:
    """All objects that are applied together."""

    objects: Sequence[Object]

    def of(self, *kinds: str) -> Iterator[Object]:
        return (thing for thing in self.objects if thing["kind"] in kinds)

    @property
    def pods(self) -> Iterator[Pod]:
        for thing in self.objects:
            if way := _TEMPLATES.get(thing["kind"]):
                inner: Any = thing
                for key in way:
                    inner = inner.get(key, {})
                yield Pod(thing, inner)

    def selected(self, chosen: Mapping[str, str] | None) -> list[Pod]:
        """The pods that carry all of the labels `chosen`; none given means every pod."""
        return [pod for pod in self.pods if (chosen or {}).items() <= pod.labels.items()]

    def names(self, *kinds: str) -> set[str]:
        return {thing["metadata"]["name"] for thing in self.of(*kinds)}


def called(thing: Object) -> str:
    """An object as complaints name it."""
    return f"{thing['kind']} {thing['metadata']['name']}"


def environment_of(container: Object) -> dict[str, str]:
    """The variables whose values stand in the manifest."""
    return {item["name"]: item["value"] for item in container.get("env", []) if "value" in item}


def sleep_of(container: Object) -> int:
    """Seconds that a container waits before it is told to stop; 0 without a hook that only sleeps."""
    hook = container.get("lifecycle", {}).get("preStop", {})
    command = hook.get("exec", {}).get("command", [])
    if len(command) == 2 and command[0].endswith("sleep") and str(command[1]).isdigit():
        return int(command[1])
    return int(hook.get("sleep", {}).get("seconds", 0))
