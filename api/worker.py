"""Sends jobs to workers, reads their events, and resumes what breaks off."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

import httpx
import orjson
import structlog
from httpx_aiohttp import AiohttpTransport

from api.endpoints import Pool, Target
from api.errors import GenerationFailed, IncompleteGeneration, InvalidRequest
from api.exchange import Broken, Exchange, lines_of
from api.failures import Failure, Kind, failure_of
from api.jobs import Job, JsonObject
from api.tracing import NO_TRACING, Tracing

log = structlog.get_logger("api.worker")

# A job that breaks its reply this often in a row, alone and without one new token, is given up.
_MAX_STRIKES = 3
_CANCEL_TRIES = 4
_MAX_PROBE_PAUSE_S = 30.0
_JSON = {"content-type": "application/json"}
# Failures that say nothing against the machine they came from.
_BLAMELESS = ("overloaded", "interrupted")


@dataclass(frozen=True)
class WorkerOptions:
    """Times in seconds; see `api/settings.py`."""

    connect_s: float = 2.0
    liveness_s: float = 10.0
    retry_base_s: float = 0.05
    retry_max_s: float = 2.0
    eject_s: float = 1.0
    describe_s: float = 5.0


class Observer(Protocol):
    """Hears of what is worth counting."""

    def retried(self, model: str, reason: str, jobs: int) -> None: ...

    def ejected(self, model: str, url: str) -> None: ...

    def readmitted(self, model: str, url: str) -> None: ...


class WorkerClient:
    """HTTP to all TorchServe endpoints. `inference` maps a model to base URLs."""

    def __init__(
        self,
        inference: Callable[[str], list[str]],
        options: WorkerOptions,
        observer: Observer,
        transport: httpx.AsyncBaseTransport | None = None,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._inference = inference
        self._options = options
        self._observer = observer
        self._tracing = tracing
        self._pools: dict[str, Pool] = {}
        self._probed: set[Target] = set()
        limits = httpx.Limits(max_connections=4096, keepalive_expiry=30)
        self.client = httpx.AsyncClient(
            # httpx's own transport looks at every connection for every queued request.
            transport=transport or AiohttpTransport(limits=limits, trust_env=False),
            timeout=httpx.Timeout(options.describe_s, connect=options.connect_s),
        )
        self._background: set[asyncio.Task[None]] = set()

    async def aclose(self) -> None:
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.client.aclose()

    def pool(self, model: str) -> Pool:
        """The targets of `model`, as last learnt."""
        pool = self._pools.get(model)
        if pool is None:
            pool = self._pools[model] = Pool(self._inference(model), self._options.eject_s)
        return pool

    async def run(self, model: str, jobs: Sequence[Job], started: Callable[[], None]) -> None:
        """Carry out `jobs`; returns when each has its end. Broken replies are resumed until the deadlines."""
        pool = self.pool(model)
        groups: dict[str | None, list[Job]] = {}
        for job in jobs:
            release = job.release if job.start is not None else pool.choose(job.draw)
            groups.setdefault(release, []).append(job)
        parts = zip(groups.items(), _shared(len(groups), started), strict=True)
        await asyncio.gather(*(self._run(model, release, group, part) for (release, group), part in parts))

    async def _run(
        self, model: str, release: str | None, jobs: list[Job], started: Callable[[], None]
    ) -> None:
        pool = self.pool(model)
        attempt = 0
        open_jobs = [job for job in jobs if not job.done]
        with pool.working(release):
            while open_jobs:
                progress = sum(len(job.ids) for job in open_jobs)
                try:
                    target = pool.pick(release)
                except LookupError:
                    await self._elsewhere(model, release, open_jobs, started)
                    return
                try:
                    await self._exchange(model, target, release, open_jobs, started)
                    pool.answered(target)
                    return
                except Broken as broken:
                    failure = broken.failure
                open_jobs = [job for job in open_jobs if not job.done]
                if not open_jobs:
                    return
                if failure.kind is Kind.FAULT:
                    log.error("worker_refused", model=model, endpoint=target.url, reason=failure.message)
                    for job in open_jobs:
                        job.fail(GenerationFailed(f"model {model} cannot take this request at present"))
                    return
                if failure.reason == "not_registered":
                    pool.lost(target)
                elif failure.reason not in _BLAMELESS:
                    self._eject(model, target)
                self._note_retry(model, target, failure, open_jobs)
                advanced = sum(len(job.ids) for job in open_jobs) > progress
                attempt = 0 if advanced else attempt + 1
                await asyncio.sleep(self._back_off(attempt))
                open_jobs = [job for job in open_jobs if not job.done]
                if failure.kind is Kind.BROKEN and not advanced:
                    open_jobs = _strike(open_jobs)
                    if len(open_jobs) > 1:
                        # One of these may be what breaks the worker: halves part it from the others.
                        middle = len(open_jobs) // 2
                        halves = open_jobs[:middle], open_jobs[middle:]
                        runs = (self._run(model, release, half, started) for half in halves)
                        await asyncio.gather(*runs)
                        return

    async def _elsewhere(
        self, model: str, release: str | None, jobs: list[Job], started: Callable[[], None]
    ) -> None:
        """The release is gone: what has not begun may go to another, what has begun cannot."""
        begun = [job for job in jobs if job.start is not None]
        for job in begun:
            message = f"release {release} of model {model} was withdrawn while it answered"
            job.fail(IncompleteGeneration(message))
        fresh = [job for job in jobs if job.start is None]
        if fresh:
            await self.run(model, fresh, started)

    def _note_retry(self, model: str, target: Target, failure: Failure, jobs: list[Job]) -> None:
        self._observer.retried(model, failure.reason, len(jobs))
        log.warning(
            "worker_retry",
            model=model,
            endpoint=target.url,
            version=target.version,
            reason=failure.reason,
            detail=failure.message,
            jobs=[job.id for job in jobs[:8]],
        )

    def _eject(self, model: str, target: Target) -> None:
        pool = self.pool(model)
        pool.failed(target)
        self._observer.ejected(model, target.url)
        if target not in self._probed:
            self._probed.add(target)
            self._spawn(self._probe(model, target))

    async def _probe(self, model: str, target: Target) -> None:
        """Ask an ejected target for its card until it answers; then it gets work again."""
        pool = self.pool(model)
        pause = self._options.retry_base_s
        try:
            while target.failures and target in pool.targets:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _MAX_PROBE_PAUSE_S)
                if not target.failures:
                    return
                try:
                    await self._ask_at(target, model, {"describe": True})
                except GenerationFailed as error:
                    log.debug("probe_failed", model=model, endpoint=target.url, reason=error.message)
                    continue
                pool.answered(target)
                self._observer.readmitted(model, target.url)
                log.info("endpoint_readmitted", model=model, endpoint=target.url, version=target.version)
        finally:
            self._probed.discard(target)

    async def cards(self, model: str) -> dict[tuple[str, str | None], JsonObject]:
        """(URL, version) -> card, of every target that gives one."""
        targets = [target for target in self.pool(model).targets if target.ready]

        async def ask(target: Target) -> JsonObject | None:
            try:
                return await self._ask_at(target, model, {"describe": True})
            except GenerationFailed as error:
                log.warning("describe_failed", model=model, endpoint=target.url, error=error.message)
                return None

        answers = await asyncio.gather(*map(ask, targets))
        return {
            (target.url, target.version): answer
            for target, answer in zip(targets, answers, strict=True)
            if answer is not None
        }

    async def tokenize(self, model: str, text: str) -> list[JsonObject]:
        """`[{"id", "text", "start", "stop"}]`, offsets in characters of `text`."""
        pool = self.pool(model)
        answer: JsonObject = {}
        tries = max(2, len(pool.targets))
        for attempt in range(tries):
            target = pool.pick(pool.choose(0.0))
            try:
                answer = await self._ask_at(target, model, {"tokenize": text})
                break
            except GenerationFailed as error:
                self._eject(model, target)
                if attempt == tries - 1:
                    log.warning("worker_unanswered", model=model, reason=error.message)
                    raise GenerationFailed(f"no worker of model {model} answers") from error
        tokens = answer.get("tokens")
        if not isinstance(tokens, list):
            raise GenerationFailed(f"model {model} does not tokenize")
        return tokens

    async def _ask_at(self, target: Target, model: str, body: Mapping[str, Any]) -> JsonObject:
        """A single answer of one target. Raises `GenerationFailed`, or `InvalidRequest` where it says so."""
        try:
            response = await self.client.post(
                self._url(target, model), content=orjson.dumps(body), headers=_JSON
            )
        except (httpx.HTTPError, OSError) as error:
            raise GenerationFailed(repr(error)) from error
        if response.status_code != httpx.codes.OK:
            raise GenerationFailed(failure_of(response.status_code, response.content).message)
        try:
            answer = orjson.loads(response.content)
        except orjson.JSONDecodeError as error:
            raise GenerationFailed("the reply is not JSON") from error
        if not isinstance(answer, dict):
            raise GenerationFailed("the reply is not an object")
        if answer.get("error_type") == "validation":
            raise InvalidRequest(str(answer.get("error")), field=answer.get("field"))
        if "error" in answer:
            raise GenerationFailed(str(answer["error"]))
        return answer

    async def _exchange(
        self, model: str, target: Target, release: str | None, jobs: list[Job], started: Callable[[], None]
    ) -> None:
        """One POST and its reply. Raises `Broken` unless every job has its end afterwards."""
        exchange = Exchange(jobs, release, started)
        held = {job.id: job.cost for job in jobs}
        target.outstanding += sum(held.values())

        def give_back(job: Job) -> None:
            target.outstanding -= held.pop(job.id, 0)

        def cancel(job: Job) -> None:
            exchange.dropped(job)
            if exchange.open and exchange.task is not None and not exchange.task.done():
                self._spawn(self._cancel(model, target, job.id))

        for job in jobs:
            job.canceller = cancel
            job.on_done.append(give_back)
        # A task of its own, so that a cancelled last job can close the connection from outside.
        exchange.task = asyncio.ensure_future(self._read(model, target, exchange))
        try:
            await asyncio.wait([exchange.task])
            if exchange.task.cancelled():
                return
            exchange.task.result()
        finally:
            for job in jobs:
                job.canceller = None
            target.outstanding -= sum(held.values())
            held.clear()
            if not exchange.task.done():
                exchange.task.cancel()
                await asyncio.wait([exchange.task])

    async def _read(self, model: str, target: Target, exchange: Exchange) -> None:
        jobs = list(exchange.open.values())
        body = orjson.dumps({"jobs": [job.wire() for job in jobs]})
        timeout = httpx.Timeout(self._options.liveness_s, connect=self._options.connect_s)
        with self._tracing.dispatch(model, target, jobs) as trace_headers:
            try:
                async with self.client.stream(
                    "POST",
                    self._url(target, model),
                    content=body,
                    headers={**_JSON, **trace_headers},
                    timeout=timeout,
                ) as response:
                    if response.status_code != httpx.codes.OK:
                        raise Broken(failure_of(response.status_code, await response.aread()))
                    # Read on after the last end: behind the terminating chunk the connection can be used again.
                    async for line in lines_of(response.aiter_raw()):
                        exchange.line(line)
            except httpx.ReadTimeout as error:
                raise Broken(Failure(Kind.BROKEN, "silent", "no sign of life from the worker")) from error
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                raise Broken(Failure(Kind.BUSY, "unreachable", repr(error))) from error
            except (httpx.HTTPError, OSError) as error:
                raise Broken(Failure(Kind.BROKEN, "broken_off", repr(error))) from error
            if exchange.open:
                raise Broken(exchange.shortfall())

    async def _cancel(self, model: str, target: Target, job_id: str) -> None:
        """Tell the worker; TorchServe may hand this to the wrong one of several, so ask a few times."""
        body = orjson.dumps({"cancel": [job_id]})
        for _ in range(_CANCEL_TRIES):
            try:
                response = await self.client.post(self._url(target, model), content=body, headers=_JSON)
                answer = orjson.loads(response.content)
            except (httpx.HTTPError, OSError, orjson.JSONDecodeError) as error:
                log.info("cancel_failed", model=model, job=job_id, error=repr(error))
                return
            if isinstance(answer, dict) and job_id in answer.get("cancelled", ()):
                return
            await asyncio.sleep(0.05)
        log.info("cancel_unknown", model=model, job=job_id)

    def _url(self, target: Target, model: str) -> str:
        version = "" if target.version is None else f"/{quote(target.version, safe='')}"
        return f"{target.url}/predictions/{quote(model, safe='')}{version}"

    def _back_off(self, attempt: int) -> float:
        full = min(self._options.retry_max_s, self._options.retry_base_s * 2.0 ** min(attempt, 16))
        return full * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, keeps no secret

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _shared(count: int, call: Callable[[], None]) -> list[Callable[[], None]]:
    """`count` functions; once each of them has been called, `call` is."""
    waiting = set(range(count))

    def part(number: int) -> Callable[[], None]:
        def called() -> None:
            if number in waiting:
                waiting.remove(number)
                if not waiting:
                    call()

        return called

    return [part(number) for number in range(count)]


def _strike(jobs: list[Job]) -> list[Job]:
    """Count a failure without progress; a job that fails alone too often is answered."""
    if len(jobs) > 1:
        return jobs
    for job in jobs:
        job.strikes += 1
        if job.strikes >= _MAX_STRIKES:
            message = f"the worker failed {job.strikes} times on this request"
            job.fail(IncompleteGeneration(message) if job.ids else GenerationFailed(message))
    return [job for job in jobs if not job.done]
