"""Texts to choose from: from a running gateway, or from a local bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from inkwell.client import Answer, Client, ClientError, Novelty, Retries, ValidationError
from inkwell.errors import InvalidJob
from training.bot.errors import NoText
from training.errors import UserError


@dataclass(frozen=True)
class Candidate:
    """A text, prompt included. `finished`: the model ended it itself. `verdict`: `novel`, `copy`, `unknown`."""

    text: str
    finished: bool
    model: str | None = None
    seed: int | None = None
    verdict: str = "unknown"


class Source(Protocol):
    """Where candidates come from."""

    def draw(self, count: int, round_: int) -> list[Candidate]:
        """`count` texts; other ones in each round. Raises NoText or UserError."""

    def close(self) -> None: ...


class GatewaySource:
    """Asks a gateway for all candidates in one request."""

    def __init__(
        self,
        url: str,
        model: str | None,
        prompt: str | None,
        parameters: Mapping[str, Any],
        *,
        api_key: str | None,
        deadline: float,
    ) -> None:
        self._client = Client(url, api_key=api_key, retries=Retries(deadline=deadline))
        self._model = model
        self._prompt = prompt
        self._parameters: dict[str, Any] = {"novelty": "mark", **parameters, "return_full_text": True}

    def draw(self, count: int, round_: int) -> list[Candidate]:
        parameters = dict(self._parameters, n=count)
        if parameters.get("seed") is not None:
            parameters["seed"] += round_ * count
        try:
            answers = self._client.generate_many(self._prompt, model=self._model, **parameters)
        except ValidationError as error:
            raise UserError(str(error)) from error
        except ClientError as error:
            raise NoText(f"no text from {self._client.url}: {error}") from error
        return [_of_answer(answer) for answer in answers]

    def close(self) -> None:
        self._client.close()


class BundleSource:
    """Runs a bundle here, all candidates at once."""

    def __init__(self, engine: Any, prompt: str | None, parameters: Mapping[str, Any]) -> None:
        """`engine` is an `inkwell.session.TextEngine`."""
        self._engine = engine
        self._job = {"novelty": {"mode": "mark"}, **parameters, "prompt": prompt}

    def draw(self, count: int, round_: int) -> list[Candidate]:
        sinks: list[list[dict[str, Any]]] = []
        for number in range(count):
            job = dict(self._job, id=str(number))
            if job.get("seed") is not None:
                job["seed"] += round_ * count + number
            sinks.append([])
            self._engine.submit(job, sinks[-1])
        while not self._engine.idle:
            self._engine.advance()
        return [self._candidate(events) for events in sinks]

    def close(self) -> None:
        self._engine.reset("no longer needed")

    def _candidate(self, events: list[dict[str, Any]]) -> Candidate:
        start, end = events[0], events[-1]
        if end["event"] == "error":
            if end["error_type"] == "validation":
                field = end.get("field", "job")
                raise InvalidJob(field, end["error"].removeprefix(f"{field} "))
            raise NoText(f"no text: {end['error']}")
        return Candidate(
            text=start["prompt"] + end["text"],
            finished=end["finish_reason"] in ("eos_token", "stop_sequence"),
            model=self._engine.bundle.config.name,
            seed=start["seed"],
            verdict=(end.get("novelty") or {}).get("verdict", "unknown"),
        )


def _of_answer(answer: Answer) -> Candidate:
    novelty = answer.novelty or Novelty()
    return Candidate(
        text=answer.text,
        finished=answer.finish_reason in ("eos_token", "stop_sequence"),
        model=answer.model,
        seed=answer.seed,
        verdict=novelty.verdict or "unknown",
    )
