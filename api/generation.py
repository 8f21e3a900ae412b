"""Whole answers: run a plan's samples, draw again what will not do, rank, and clean up."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from api import beams, phonetics
from api.errors import InvalidRequest
from api.gateway import Gateway
from api.jobs import Job, JsonObject
from api.keys import Caller
from api.plan import Plan
from api.postprocess import post_process
from api.sessions import Scope, same_text


@dataclass(frozen=True)
class Answer:
    """One sample that is done. `text` is without the prompt and cleaned up; `start`, `end` are events."""

    job: Job
    text: str
    start: JsonObject
    end: JsonObject
    session_scope: Scope | None = None  # to whom it is new, where a session was named

    @property
    def whole(self) -> str:
        """Prompt and text: a name that was begun by the caller is one name."""
        return str(self.start.get("prompt") or "") + self.text

    @property
    def novelty(self) -> JsonObject:
        """What the worker found of the training corpus; empty when it was not asked or has none."""
        found: JsonObject = self.end.get("novelty") or {}
        return found

    @property
    def mean_logprob(self) -> float:
        """Nats per token; higher is likelier. An empty answer ranks last."""
        logprobs = self.job.logprobs
        return sum(logprobs) / len(logprobs) if logprobs else float("-inf")


async def run_plan(gateway: Gateway, plan: Plan, request_id: str, caller: Caller) -> list[list[Answer]]:
    """For each prompt its answers, best first when ranked: `plan.samples` of them, or at least `plan.keep` where
    some were dropped. Cancelling stops the work.

    Raises the first error of any job, and `InvalidRequest` when too few texts will do.
    """
    if plan.beams > 1:
        done = await _run(
            gateway, plan, request_id, caller, [(prompt, 0) for prompt in range(len(plan.prompts))]
        )
        answers = [
            [
                Answer(job, post_process(end["text"], plan.post_process), answer.start, end)
                for job, end in beams.found(answer.job)
            ]
            for answer in done
        ]
    elif plan.selective:
        answers = await _Selection(gateway, plan, request_id, caller).run()
    else:
        wanted = [(prompt, sample) for prompt in range(len(plan.prompts)) for sample in range(plan.samples)]
        done = await _run(gateway, plan, request_id, caller, wanted)
        answers = [done[i : i + plan.samples] for i in range(0, len(done), plan.samples)]
    if plan.rank is not None:
        merit = _MERITS[plan.rank]
        for group in answers:
            group.sort(key=merit, reverse=True)
    return answers


def _newness(answer: Answer) -> tuple[float, ...]:
    """Little copied, then no long copy, then likely; what is not known ranks last."""
    found = answer.novelty
    if "ratio" not in found:
        return (-2.0, 0.0, answer.mean_logprob)
    return (-float(found["ratio"]), -float(found.get("longest", 0)), answer.mean_logprob)


_MERITS: dict[str, Callable[[Answer], tuple[float, ...]]] = {
    "logprob": lambda answer: (answer.mean_logprob,),
    "novelty": _newness,
    "pronounceable": lambda answer: (phonetics.score(answer.whole), answer.mean_logprob),
}


async def _run(
    gateway: Gateway, plan: Plan, request_id: str, caller: Caller, samples: list[tuple[int, int]]
) -> list[Answer]:
    jobs = gateway.jobs(plan, request_id, caller, samples, stream=False)
    try:
        answers = []
        for job in jobs:
            end = await job.result()
            start = job.start or {}
            text = post_process(end["text"], plan.post_process)
            answers.append(Answer(job, text, start, end))
        return answers
    finally:
        for job in jobs:
            job.cancel()


class _Selection:
    """Draws until every prompt has its texts: what will not do is replaced, by more draws in each round, a
    bounded number of times."""

    def __init__(self, gateway: Gateway, plan: Plan, request_id: str, caller: Caller) -> None:
        self._gateway = gateway
        self._plan = plan
        self._request_id = request_id
        self._caller = caller
        self._session = (caller.name, plan.model, plan.session or "")
        self._seen: set[str] = set()
        self._claimed: list[str] = []
        self._dropped: Counter[str] = Counter()
        self._answers: list[list[Answer]] = [[] for _ in plan.prompts]
        self._drawn = [0] * len(plan.prompts)

    async def run(self) -> list[list[Answer]]:
        """The answers by prompt. What was claimed from a session is given back when it is not given out."""
        plan, settings = self._plan, self._gateway.settings
        try:
            # The first round asks for all samples; after it, what is answered is enough.
            rounds = [
                (plan.samples, 1),
                *((plan.keep, 2**number) for number in range(settings.max_rounds - 1)),
            ]
            for enough, spare in rounds:
                wanted = self._more(enough, spare)
                answers = await _run(self._gateway, plan, self._request_id, self._caller, wanted)
                for (prompt, _), answer in zip(wanted, answers, strict=True):
                    await self._consider(prompt, answer)
                if all(len(group) >= plan.keep for group in self._answers):
                    return self._answers
            raise self._too_few()
        except (Exception, asyncio.CancelledError):
            await self._gateway.sessions.release(self._session, self._claimed)
            raise

    def _more(self, enough: int, spare: int) -> list[tuple[int, int]]:
        """(prompt, number of the draw) for what is missing, `spare` draws for each text."""
        wanted = []
        for prompt, group in enumerate(self._answers):
            extra = min(max(0, enough - len(group)) * spare, self._gateway.settings.max_samples)
            wanted += [(prompt, self._drawn[prompt] + number) for number in range(extra)]
            self._drawn[prompt] += extra
        return wanted

    async def _consider(self, prompt: int, answer: Answer) -> None:
        if len(self._answers[prompt]) == self._plan.samples:
            return
        fault = self._fault(answer)
        # The session comes last: it remembers what it is asked about.
        if fault is None and self._plan.session is not None:
            scope = await self._gateway.sessions.claim(self._session, answer.whole)
            if scope is None:
                fault = "session"
            else:
                self._claimed.append(answer.whole)
                answer = replace(answer, session_scope=scope)
        if fault is not None:
            self._dropped[fault] += 1
            self._gateway.metrics.redrawn(self._plan.model, fault)
            return
        self._seen.add(same_text(answer.whole))
        self._answers[prompt].append(answer)

    def _fault(self, answer: Answer) -> str | None:
        """Why this text will not do, as far as that can be told without its session."""
        plan, found = self._plan, answer.novelty
        if plan.rejects_copies and self._copied(found):
            return "copy"
        if plan.unique and found.get("exact_copy"):
            return "corpus"
        if plan.syllables is not None:
            fewest, most = plan.syllables
            if not fewest <= phonetics.syllables(answer.whole) <= most:
                return "syllables"
        if plan.unique and same_text(answer.whole) in self._seen:
            return "duplicate"
        return None

    def _copied(self, found: JsonObject) -> bool:
        rule = self._plan.novelty
        if found.get("verdict") not in ("copy", "novel"):
            raise InvalidRequest(
                f"novelty must be absent or 'mark' for model {self._plan.model}, which carries no index of its "
                "training text; got 'reject'",
                field="novelty",
            )
        too_much = (
            rule is not None and rule.max_ratio is not None and found.get("ratio", 1.0) > rule.max_ratio
        )
        return found["verdict"] == "copy" or too_much

    def _too_few(self) -> InvalidRequest:
        plan = self._plan
        have = sum(min(len(group), plan.keep) for group in self._answers)
        faults = ", ".join(f"{count} {_FAULTS[fault]}" for fault, count in self._dropped.most_common())
        field = _FIELDS[self._dropped.most_common(1)[0][0]]
        return InvalidRequest(
            f"{field}: only {have} of {plan.keep * len(plan.prompts)} texts would do after {sum(self._drawn)} "
            f"draws ({faults}); ask for fewer, raise the temperature, or change the seed",
            field=field,
        )


_FAULTS = {
    "copy": "repeated the training text",
    "corpus": "stood in the training text as they are",
    "duplicate": "were drawn before",
    "session": "were given before in this session",
    "syllables": "had another number of syllables",
}
_FIELDS = {
    "copy": "novelty",
    "corpus": "unique",
    "duplicate": "unique",
    "session": "session",
    "syllables": "syllables",
}
