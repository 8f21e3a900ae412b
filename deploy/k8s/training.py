"""Training over several nodes: an Indexed Job whose pods find each other by name and run `torchrun`."""

from __future__ import annotations

from deploy.k8s import network
from deploy.k8s.parts import (
    Object,
    Options,
    account,
    confined,
    empty,
    environment,
    labels,
    mounts,
    object_,
    pod,
    resources,
)

NAME = "inkwell-training"
PORT = 29500
_INDEX = "metadata.annotations['batch.kubernetes.io/job-completion-index']"


def objects(options: Options, family: str = "stories", name: str = "stories") -> list[Object]:
    """The Job, the names of its pods, its volume, its identity and its policy."""
    label = labels("training")
    # Pods find each other before they are ready, and are ready only together.
    service = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": label,
        "ports": [{"name": "rendezvous", "port": PORT, "targetPort": "rendezvous"}],
    }
    volume = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "20Gi"}}}
    # Gradients travel over ports that the library chooses.
    inward = {"from": [network.pods(label)]}
    outward = {"to": [network.pods(label)]}
    return [
        account(NAME, options, label),
        object_("v1", "Service", NAME, options, label, spec=service),
        object_("v1", "PersistentVolumeClaim", NAME, options, label, spec=volume),
        _job(options, family, name, label),
        network.policy(NAME, options, label, [inward], [network.names_are_looked_up(), outward]),
    ]


def command(options: Options, family: str, name: str) -> list[str]:
    """What every node runs; `$(NODE)` is its number, and node 0 is where they meet."""
    nodes = str(options.training_nodes)
    return [
        *("python", "-m", "torch.distributed.run", "--nnodes", nodes, "--nproc-per-node", "1"),
        *("--node-rank", "$(NODE)", "--master-addr", f"{NAME}-0.{NAME}", "--master-port", str(PORT)),
        *("-m", "training", "train", family, "--name", name, "--out", f"/bundles/{name}", "--resume"),
    ]


def _job(options: Options, family: str, name: str, label: dict[str, str]) -> Object:
    template = pod(
        NAME,
        label,
        restartPolicy="OnFailure",
        subdomain=NAME,
        containers=[_container(options, family, name)],
        volumes=[
            {"name": "bundles", "persistentVolumeClaim": {"claimName": NAME}},
            empty("tmp", 1024),
            empty("shm", 1024, in_memory=True),
        ],
    )
    spec = {
        "completionMode": "Indexed",
        "completions": options.training_nodes,
        "parallelism": options.training_nodes,
        # A node that fails takes the others along, and all go on from the last checkpoint.
        "backoffLimit": 4 * options.training_nodes,
        "ttlSecondsAfterFinished": 86_400,
        "template": template,
    }
    return object_("batch/v1", "Job", NAME, options, label, spec=spec)


def _container(options: Options, family: str, name: str) -> Object:
    node = {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": _INDEX}}}
    return {
        "name": "training",
        "image": options.image("tools"),
        "args": command(options, family, name),
        # Checkpoints go to runs/ below it: the image cannot be written to, and a pod that comes back needs them.
        "workingDir": "/bundles",
        "env": [node, *environment(INKWELL_DATA_DIR="/bundles/data", OMP_NUM_THREADS="4")],
        "ports": [{"name": "rendezvous", "containerPort": PORT}],
        "securityContext": confined(),
        "resources": resources(4000, 8192 + 1024, 2048),
        "volumeMounts": mounts([("bundles", "/bundles"), ("tmp", "/tmp"), ("shm", "/dev/shm")]),  # noqa: S108 - within the pod
    }
