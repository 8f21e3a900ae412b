"""One model group: TorchServe pods, the Service that names them, their models file and their budget."""

from __future__ import annotations

import hashlib

from deploy.k8s.groups import Group
from deploy.k8s.parts import (
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

INFERENCE, MANAGEMENT, METRICS = 8080, 8081, 8082
ACCOUNT = "inkwell-worker"
# A pod that stops is out of its Service at once, and the gateways look up who is in it every five seconds.
_FORGOTTEN_S = 10
# TorchServe's own end, after everything has been answered.
_JVM_END_S = 20
_STORE_MB, _RUN_MB, _TMP_MB = 2048, 2048, 512
# Models are read from here, whichever volume stands behind it: see `deploy/k8s/components.py`.
MODELS_VOLUME = 0


def names(group: Group) -> str:
    return f"inkwell-worker-{group.name}"


def objects(group: Group, options: Options) -> list[Object]:
    """Everything of one group."""
    label = labels("worker", group=group.name)
    return [
        _models_file(group, options, label),
        _service(group, options, label),
        _deployment(group, options, label),
        budget(names(group), options, label),
    ]


def worker_account(options: Options) -> Object:
    return account(ACCOUNT, options, labels("worker"))


def models_text(group: Group) -> str:
    """The models file of one pod: its own models and no other."""
    models = {entry.name: entry for entry in group.models}
    default = next((name for name, entry in models.items() if entry.default), group.models[0].name)
    return dumps(ModelsFile(models, default))


def digest(text: str) -> str:
    """A change of a pod's configuration is a change of the pod, so that it is rolled out."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _models_file(group: Group, options: Options, label: dict[str, str]) -> Object:
    return object_("v1", "ConfigMap", names(group), options, label, data={"models.toml": models_text(group)})


def _service(group: Group, options: Options, label: dict[str, str]) -> Object:
    """Headless: its name stands for all ready pods, and the gateway balances over them itself."""
    ports = [
        {"name": "inference", "port": INFERENCE, "targetPort": "inference"},
        {"name": "management", "port": MANAGEMENT, "targetPort": "management"},
    ]
    spec = {"clusterIP": "None", "selector": label, "ports": ports}
    return object_("v1", "Service", names(group), options, label, spec=spec)


def _deployment(group: Group, options: Options, label: dict[str, str]) -> Object:
    # Where GPUs are scarce there is none for a pod more than are wanted.
    surge = {"maxSurge": 0, "maxUnavailable": 1} if group.gpus else {"maxSurge": 1, "maxUnavailable": 0}
    spec = {
        "replicas": group.replicas,
        "revisionHistoryLimit": 3,
        "progressDeadlineSeconds": 1800,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": surge},
        "selector": {"matchLabels": label},
        "template": _template(group, options, label),
    }
    return object_("apps/v1", "Deployment", names(group), options, label, spec=spec)


def _template(group: Group, options: Options, label: dict[str, str]) -> Object:
    shm_mb = 1024 if group.gpus else 64
    where: Object = {}
    if group.gpus:
        where = {
            "nodeSelector": {"nvidia.com/gpu.present": "true"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        }
    drain_s = options.longest_request_s + _FORGOTTEN_S
    return pod(
        ACCOUNT,
        label,
        annotations={"inkwell/models": digest(models_text(group))},
        terminationGracePeriodSeconds=drain_s + _JVM_END_S,
        topologySpreadConstraints=spread(label),
        **where,
        initContainers=[copy_models(options)],
        containers=[_container(group, options, shm_mb, drain_s)],
        volumes=[
            empty("models", _STORE_MB),
            empty("run", _RUN_MB),
            empty("tmp", _TMP_MB),
            empty("shm", shm_mb, in_memory=True),
            {"name": "models-file", "configMap": {"name": names(group)}},
        ],
    )


def copy_models(options: Options) -> Object:
    """Copies the archives out of the image that carries them, each checked against its hash."""
    return {
        "name": "models",
        "image": options.image("models"),
        "args": ["python", "-m", "deploy.copy_models", "/store", "/models"],
        "env": environment(INKWELL_MODELS_FILE="/etc/inkwell/models.toml"),
        "securityContext": confined(),
        "resources": resources(100, 256, 64),
        "volumeMounts": mounts(
            [("models", "/models"), ("tmp", "/tmp"), ("models-file", "/etc/inkwell")],  # noqa: S108 - within the pod
            read_only=["models-file"],
        ),
    }


def _container(group: Group, options: Options, shm_mb: int, drain_s: int) -> Object:
    gpu = {"NVIDIA_DRIVER_CAPABILITIES": "compute,utility"} if group.gpus else {}
    # Asked of every worker of the plan; /ping answers before a model is loaded, and while it crashes too.
    health = {"exec": {"command": ["python", "-m", "deploy.worker", "health"]}}
    ping = {"httpGet": {"path": "/ping", "port": "inference"}}
    ports = {"inference": INFERENCE, "management": MANAGEMENT, "metrics": METRICS}
    return {
        "name": "torchserve",
        "image": options.image("worker-cuda" if group.gpus else "worker"),
        "env": environment(INKWELL_MODELS_FILE="/etc/inkwell/models.toml", **gpu),
        "ports": [{"name": name, "containerPort": port} for name, port in ports.items()],
        "securityContext": confined(),
        # What lies in /dev/shm counts as memory.
        "resources": resources(
            group.millicores, group.memory_mb + shm_mb, _STORE_MB + _RUN_MB + _TMP_MB + 512, group.gpus
        ),
        "startupProbe": {**health, "periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 60},
        "readinessProbe": {**health, "periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 3},
        # A JVM that does not answer for five minutes; workers that die are TorchServe's and the gateway's business.
        "livenessProbe": {**ping, "periodSeconds": 30, "timeoutSeconds": 5, "failureThreshold": 10},
        # TorchServe drops what it has in hand when it is told to stop, so it is told when nothing is.
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(drain_s)]}}},
        "volumeMounts": mounts(
            [
                ("models", "/models"),
                ("run", "/run/inkwell"),
                ("tmp", "/tmp"),  # noqa: S108 - within the pod
                ("shm", "/dev/shm"),  # noqa: S108 - within the pod
                ("models-file", "/etc/inkwell"),
            ],
            read_only=["models", "models-file"],
        ),
    }
