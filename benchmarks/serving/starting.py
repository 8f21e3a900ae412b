"""One start of a worker, in a process of its own that does what TorchServe has the handler do.

`inkwell bench start` runs this file with one JSON object as its argument: `began` (time.monotonic() just before the
process was started; that clock is the same for all processes), `runtime` (null: only `import torch`), `model_dir`
(with the folder `bundle` inside), `slots`, `threads` and `tokens` (of the text that is generated afterwards).

The last line of standard output is one JSON object: the fields of `start.Start`, or `unavailable` with the reason.
Nothing is imported here that the start would have to pay for.
"""

from __future__ import annotations

import json
import sys
import time
from types import SimpleNamespace
from typing import Any


def main(asked: dict[str, Any]) -> dict[str, Any]:
    return floor(asked) if asked["runtime"] is None else worker(asked)


def floor(asked: dict[str, Any]) -> dict[str, Any]:
    """What everybody pays who serves with torch."""
    import torch  # noqa: F401  its import is what is measured

    imported = time.monotonic() - asked["began"]
    resident, threads = held()
    return answer(imported, imported, resident, resident, threads, 0)


def worker(asked: dict[str, Any]) -> dict[str, Any]:
    """The handler's own way to be ready, and one text."""
    from handlers.continuous import ContinuousHandler

    imported = time.monotonic() - asked["began"]
    from inkwell.errors import RuntimeUnavailable
    from inkwell.session import final_event

    handler = ContinuousHandler()
    settings = {name: asked[name] for name in ("runtime", "slots", "threads")}
    properties = {"model_dir": asked["model_dir"], "gpu_id": None}
    try:
        handler.initialize(
            SimpleNamespace(model_yaml_config={"handler": settings}, system_properties=properties)
        )
    except RuntimeUnavailable as error:
        return {"unavailable": str(error)}
    ready = time.monotonic() - asked["began"]
    resident, _ = held()
    if handler._desk is None:
        raise RuntimeError("the handler is initialized and has no desk")
    engine = handler._desk.engine
    card = engine.describe()
    tokens = min(asked["tokens"], card["limits"]["max_new_tokens"])
    job = {"seed_word": {"strategy": "none"}, "seed": 1, "max_new_tokens": tokens, "min_new_tokens": tokens}
    end = final_event(engine.generate(job))
    if end["generated_tokens"] != tokens:
        raise RuntimeError(f"{tokens} tokens were asked for, and {end['generated_tokens']} came")
    after, threads = held()
    return answer(imported, ready, resident, after, threads, card["bytes_per_slot"])


def answer(
    imported: float, ready: float, resident: int, after: int, threads: int, slot: int
) -> dict[str, Any]:
    """Seconds since the process was started, bytes, and a number of threads, by the names of `start.Start`."""
    return {
        "imported_s": imported,
        "ready_s": ready,
        "resident": resident,
        "resident_after_text": after,
        "threads": threads,
        "bytes_per_slot": slot,
    }


def held() -> tuple[int, int]:
    """Resident bytes and threads of this process. psutil comes only now: its half MiB is all that is measured
    too much."""
    import psutil

    process = psutil.Process()
    return process.memory_info().rss, process.num_threads()


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
