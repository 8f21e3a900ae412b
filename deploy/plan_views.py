"""A plan for people (a table) and for TorchServe (an archive's `model-config.yaml`)."""

from __future__ import annotations

import yaml
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from deploy.board import usable
from deploy.plan import Placement, Plan

# POSTs that one worker may have in flight. Each carries many jobs and the engine queues what exceeds its
# slots, so this is generous: a POST that cancels others must never wait behind them.
LIVE_POSTS = 256
# TorchServe waits this long for company when a request finds its worker idle.
BATCH_DELAY_MS = 1
# A worker answers every call within a time slice. One that is silent for so long hangs, and TorchServe puts another
# in its place: soon enough that what it had in hand can still be finished within the gateway's deadline.
RESPONSE_TIMEOUT_S = 30


def render_model_config(
    placement: Placement, worker: int = 0, response_timeout_s: int = RESPONSE_TIMEOUT_S
) -> str:
    """The `model-config.yaml` that makes TorchServe run worker number `worker` (from 0) of a model as placed.

    It always says one worker. Under continuous batching TorchServe's idle workers of a model hold its queue's
    lock while they wait, and a busy worker needs that lock before every step: with two workers a generation
    stands still until another request comes. So each further worker is a version of the model of its own.
    """
    config: dict[str, object] = {
        "minWorkers": 1,
        "maxWorkers": 1,
        "batchSize": LIVE_POSTS,
        "maxBatchDelay": BATCH_DELAY_MS,
        "responseTimeout": response_timeout_s,
        "continuousBatching": True,
        "deviceType": placement.device,
    }
    device = placement.device_of(worker)
    if device is not None:
        config["deviceIds"] = [device]
    config["handler"] = {
        "slots": placement.slots,
        "threads": placement.threads,
        "max_new_tokens": placement.max_new_tokens,
        "runtime": placement.runtime,
    }
    return str(yaml.safe_dump(config, sort_keys=False))


def explain(plan: Plan) -> RenderableType:
    """Tables of models and GPUs, and the warnings, for a rich console."""
    parts: list[RenderableType] = [_models(plan)]
    if plan.inventory.gpus:
        parts.append(_gpus(plan))
    memory = f", {plan.inventory.memory_mb} MiB" if plan.inventory.memory_mb is not None else ""
    parts.append(Text(f"CPU: {plan.inventory.cpus} cores{memory}; GPUs: {len(plan.inventory.gpus)}"))
    parts.extend(Text(f"warning: {warning}", style="yellow") for warning in plan.warnings)
    return Group(*parts)


def _models(plan: Plan) -> Table:
    table = Table(title="Models", title_justify="left")
    for heading in ("model", "runs on", "share", "workers", "threads", "slots", "MiB each"):
        table.add_column(heading, justify="left" if heading in ("model", "runs on") else "right")
    for placement in plan.placements.values():
        on_gpu = placement.device == "gpu"
        table.add_row(
            placement.model,
            "GPU " + ", ".join(map(str, placement.device_ids)) if on_gpu else "CPU",
            f"{placement.share:g}" if on_gpu else "",
            str(placement.workers),
            "" if on_gpu else str(placement.threads),
            str(placement.slots),
            str(placement.memory_mb),
        )
    return table


def _gpus(plan: Plan) -> Table:
    table = Table(title="GPUs", title_justify="left")
    for heading in ("GPU", "name", "models", "share used", "MiB used", "MiB usable"):
        table.add_column(heading, justify="left" if heading in ("GPU", "name", "models") else "right")
    for gpu in plan.inventory.gpus:
        here = plan.on_gpu(gpu.identity)
        table.add_row(
            str(gpu.index),
            gpu.name,
            ", ".join(placement.model for placement in here) or "idle",
            f"{sum(placement.share for placement in here):.3g}",
            str(sum(p.workers // len(p.devices) * p.memory_mb for p in here)),
            str(usable(gpu)),
        )
    return table
