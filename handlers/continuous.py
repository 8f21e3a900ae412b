"""TorchServe's entry point. The only code that knows TorchServe's context; all work is done in `handlers.posts`.

TorchServe wants exactly one class in this module.
"""

import logging
from pathlib import Path
from typing import Any

import torch

from handlers.posts import Desk
from inkwell.bundle import load_bundle
from inkwell.session import TextEngine

logger = logging.getLogger(__name__)


class ContinuousHandler:
    """Answers many jobs per POST, in time slices (docs/protocol.md)."""

    def __init__(self) -> None:
        self._desk: Desk | None = None

    def initialize(self, context: Any) -> None:
        """Load the bundle beside this file onto the device that TorchServe chose.

        `handler` in model-config.yaml may set: slots (rows at a time), threads (of torch), slice_ms,
        max_new_tokens (the most a job may ask for), runtime (see inkwell.runtimes).
        """
        settings = (context.model_yaml_config or {}).get("handler") or {}
        properties = context.system_properties
        gpu = properties.get("gpu_id")
        use_gpu = gpu is not None and int(gpu) >= 0 and torch.cuda.is_available()
        device = torch.device("cuda", int(gpu)) if use_gpu else torch.device("cpu")
        torch.set_num_threads(int(settings.get("threads", 1)))
        bundle = load_bundle(Path(properties["model_dir"]) / "bundle", device)
        engine = TextEngine(
            bundle,
            int(settings.get("slots", 64)),
            most_new_tokens=settings.get("max_new_tokens"),
            runtime=settings.get("runtime", "auto"),
        )
        engine.warm_up()
        self._desk = Desk(engine, float(settings.get("slice_ms", 20)) / 1000)
        # TorchServe logs two lines in every call, and its front end reads each of them.
        logging.getLogger().setLevel(logging.WARNING)
        logger.setLevel(logging.INFO)
        logger.info("model %s is ready on %s by %s", bundle.config.name, device, engine.runtime)

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """One time slice for all live requests."""
        if self._desk is None:
            raise RuntimeError("handle was called before initialize")
        ids = [context.request_ids[index] for index in range(len(data))]
        replies = self._desk.call(ids, [_body(row) for row in data])
        # TorchServe asks one callable per request whether its reply is complete.
        context.stopping_criteria = [lambda _chunk, last=reply.last: last for reply in replies]
        for index, reply in enumerate(replies):
            context.set_response_content_type(index, reply.content_type)
        return [reply.chunk for reply in replies]


def _body(row: dict[str, Any]) -> Any:
    """JSON bodies arrive as `body`, form fields under their own names."""
    if "body" in row:
        return row["body"]
    return row.get("data", {name: _text(value) for name, value in row.items()})


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, (bytes, bytearray)) else value
