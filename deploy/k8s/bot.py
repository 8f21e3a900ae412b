"""The posting bot: a CronJob that asks the gateway for a text and posts it."""

from __future__ import annotations

from deploy.k8s import gateway, network
from deploy.k8s.parts import (
    APP,
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

NAME = "inkwell-bot"
# Made by hand, since it is secret: the platform's credentials as in docs/bot.md, and INKWELL_API_KEY.
SECRET = "inkwell-bot"  # noqa: S105 - a name


def objects(default_model: str, options: Options) -> list[Object]:
    """The bot, its history's volume, its identity and its way out."""
    label = labels("bot")
    return [
        account(NAME, options, label),
        _history(options, label),
        _cron(default_model, options, label),
        network.policy(NAME, options, label, (), _egress()),
    ]


def _history(options: Options, label: dict[str, str]) -> Object:
    """What was posted has to outlive every run, or the bot repeats itself."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return object_("v1", "PersistentVolumeClaim", NAME, options, label, spec=spec)


def _cron(model: str, options: Options, label: dict[str, str]) -> Object:
    template = pod(NAME, label, restartPolicy="OnFailure", containers=[_container(model, options)], volumes=[
        {"name": "history", "persistentVolumeClaim": {"claimName": NAME}},
        empty("tmp", 64),
    ])  # fmt: skip
    job = {
        "backoffLimit": 3,
        "activeDeadlineSeconds": 1800,
        "template": template,
    }
    spec = {
        "schedule": "0 */4 * * *",
        # Two bots would not know of each other's posts.
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": 600,
        "successfulJobsHistoryLimit": 0,
        "failedJobsHistoryLimit": 3,
        "jobTemplate": {"metadata": {"labels": label}, "spec": job},
    }
    return object_("batch/v1", "CronJob", NAME, options, label, spec=spec)


def _container(model: str, options: Options) -> Object:
    return {
        "name": "bot",
        "image": options.image("tools"),
        # Where to post is decided here; `stdout` shows it in the log and sends nothing.
        "args": ["python", "-m", "training", "post", "--to", "stdout", "--model", model],
        "env": environment(
            INKWELL_URL=f"http://{APP}:{gateway.PORT}", INKWELL_POST_HISTORY="/history/posts.sqlite"
        ),
        "envFrom": [{"secretRef": {"name": SECRET}}],
        "securityContext": confined(),
        "resources": resources(100, 1024, 128),
        "volumeMounts": mounts([("history", "/history"), ("tmp", "/tmp")]),  # noqa: S108 - within the pod
    }


def _egress() -> list[Object]:
    platforms = {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}}]}
    return [
        network.names_are_looked_up(),
        network.to_gateway(),
        {**platforms, "ports": network.ports(443)},
    ]
