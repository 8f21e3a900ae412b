"""A job that breaks the engine for everybody fails alone: real handler and engine, without TorchServe. Quick."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from api.errors import GatewayError
from api.gateway import Gateway
from api.keys import ANYBODY
from api.native_schema import Parameters
from api.plan import plan
from api.settings import Settings
from handlers.posts import Desk
from inkwell.bundle import load_bundle
from inkwell.session import TextEngine

_spec = importlib.util.spec_from_file_location(
    "desk_transport", Path(__file__).parents[1] / "fuzz" / "desk_transport.py"
)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _module
_spec.loader.exec_module(_module)


class Poisonable(TextEngine):
    """Fails in every step while a job that begins with "Old" has a token."""

    def advance(self, seconds: float = 0.02, least: float = 0.002) -> None:
        if any(live.prompt == "Old" and self._has_text(live) for live in self._live.values()):
            raise RuntimeError("the poison works")
        super().advance(0.0, 0.0)

    @staticmethod
    def _has_text(live: Any) -> bool:
        return bool(live.job.resume_ids) or live.first_token is not None


@pytest.fixture
async def gateway(char_bundle: Path, tmp_path: Path):
    (tmp_path / "models.toml").write_text('[models.prose]\nfamily = "prose"\n', encoding="utf-8")
    settings = Settings(
        models_file=tmp_path / "models.toml", deadline_s=60, retry_base_s=0.005, retry_max_s=0.05
    )
    desk = Desk(Poisonable(load_bundle(char_bundle), slots=16), slice_seconds=0.0)
    gateway = Gateway(settings, transport=_module.DeskTransport(desk))
    gateway.start()
    yield gateway
    await gateway.stop()


async def text(gateway: Gateway, prompt: str, seed: int) -> str:
    parameters = Parameters.model_validate({"seed": seed, "max_new_tokens": 30})
    made = plan(
        gateway.models.models["prose"], gateway.settings, parameters, [prompt],
        prompt_field="inputs", tokens_field="max_new_tokens", logprobs=False,
    )  # fmt: skip
    (job,) = gateway.jobs(made, f"r{seed}", ANYBODY, [(0, 0)], stream=False)
    return str((await job.result())["text"])


async def test_of_many_jobs_only_the_one_that_breaks_the_engine_fails(gateway: Gateway, char_bundle: Path):
    asked = [text(gateway, "Old" if seed == 5 else "The", seed) for seed in range(12)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    oracle = TextEngine(load_bundle(char_bundle), slots=1)
    for seed, answer in enumerate(answers):
        if seed == 5:
            assert isinstance(answer, GatewayError)
            assert "3 times" in answer.message
        else:
            events = oracle.generate({"prompt": "The", "seed": seed, "max_new_tokens": 30})
            assert answer == next(event["text"] for event in events if event["event"] == "end")
