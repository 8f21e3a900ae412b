"""Sends jobs to workers, reads their events, and resumes what breaks off."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
import orjson
import structlog
from httpx_aiohttp import AiohttpTransport

from api.endpoints import Pool, Target
from api.errors import GenerationFailed, IncompleteGeneration
from api.exchange import Broken, Exchange, lines_of
from api.failures import Failure, Kind, failure_of
from api.jobs import Job, JsonObject
from api.probing import Observer as ProbingObserver
from api.probing import Probing
from api.questions import JSON, Questions, url_of
from api.suspects import Suspects
from api.tracing import NO_TRACING, Tracing

log = structlog.get_logger("api.worker")

# Failures that say nothing against the machine they came from.
_BLAMELESS = ("overloaded", "interrupted")

_parsed = functools.lru_cache(maxsize=1024)(httpx.URL)


@dataclass(frozen=True)
class WorkerOptions:
    """Times in seconds; see `api/settings.py`."""

    connect_s: float = 2.0
    liveness_s: float = 10.0
    retry_base_s: float = 0.05
    retry_max_s: float = 2.0
    eject_s: float = 1.0
    describe_s: float = 5.0


class Observer(ProbingObserver, Protocol):
    """Hears of what is worth counting."""

    def retried(self, model: str, reason: str, jobs: int) -> None: ...


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
        limits = httpx.Limits(max_connections=4096, keepalive_expiry=30)
        # httpx's own transport looks at every connection for every queued request.
        self._transport = transport or AiohttpTransport(limits=limits, trust_env=False)
        self.client = httpx.AsyncClient(
            transport=self._transport,
            timeout=httpx.Timeout(options.describe_s, connect=options.connect_s),
        )
        self._background: set[asyncio.Task[None]] = set()
        self._questions = Questions(self.client)
        self._suspects = Suspects(self.pool, self._questions, self._attempt, self._back_off)
        self._probing = Probing(self._questions, self.pool, observer, self._spawn, options.retry_base_s)

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
                failure = await self._attempt(model, target, release, open_jobs, started)
                if failure is None:
                    return
                advanced = sum(len(job.ids) for job in open_jobs) > progress
                open_jobs = [job for job in open_jobs if not job.done]
                attempt = 0 if advanced else attempt + 1
                await asyncio.sleep(self._back_off(attempt))
                open_jobs = [job for job in open_jobs if not job.done]
                if failure.kind is Kind.BROKEN and not advanced:
                    # One of these, or one that somebody else has sent, may be what breaks the worker.
                    await asyncio.gather(*(self._suspect(model, release, job, started) for job in open_jobs))
                    return

    async def _suspect(self, model: str, release: str | None, job: Job, started: Callable[[], None]) -> None:
        await self._suspects.clear(model, release, job, started)
        if not job.done:
            await self._run(model, release, [job], started)

    async def _attempt(
        self,
        model: str,
        target: Target,
        release: str | None,
        jobs: list[Job],
        started: Callable[[], None],
        moved: Callable[[], None] = lambda: None,
    ) -> Failure | None:
        """One exchange; the failure after which to send again what is open, or None when nothing is. `moved` is
        called with the first news of any job."""
        pool = self.pool(model)
        try:
            await self._exchange(model, target, release, jobs, started, moved)
            pool.answered(target)
            return None
        except Broken as broken:
            failure = broken.failure
        open_jobs = [job for job in jobs if not job.done]
        if not open_jobs:
            return None
        if failure.kind is Kind.FAULT:
            log.error("worker_refused", model=model, endpoint=target.url, reason=failure.message)
            for job in open_jobs:
                job.fail(GenerationFailed(f"model {model} cannot take this request at present"))
            return None
        if failure.reason == "not_registered":
            pool.lost(target)
        elif failure.reason not in _BLAMELESS:
            self._probing.eject(model, target)
        self._note_retry(model, target, failure, open_jobs)
        return failure

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

    async def cards(self, model: str) -> dict[tuple[str, str | None], JsonObject]:
        """(URL, version) -> card, of every target that gives one."""
        targets = [target for target in self.pool(model).targets if target.ready]

        async def ask(target: Target) -> JsonObject | None:
            try:
                return await self._questions.describe(target, model)
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
        failure: GenerationFailed | None = None
        for _ in range(max(2, len(pool.targets))):
            target = pool.pick(pool.choose(0.0))
            try:
                return await self._questions.tokenize(target, model, text)
            except GenerationFailed as error:
                failure = error
                self._probing.eject(model, target)
        log.warning("worker_unanswered", model=model, reason=None if failure is None else failure.message)
        raise GenerationFailed(f"no worker of model {model} answers") from failure

    async def _exchange(
        self,
        model: str,
        target: Target,
        release: str | None,
        jobs: list[Job],
        started: Callable[[], None],
        moved: Callable[[], None],
    ) -> None:
        """One POST and its reply. Raises `Broken` unless every job has its end afterwards."""
        exchange = Exchange(jobs, release, started, moved)
        held = {job.id: job.cost for job in jobs}
        target.outstanding += sum(held.values())

        def give_back(job: Job) -> None:
            target.outstanding -= held.pop(job.id, 0)

        def cancel(job: Job) -> None:
            exchange.dropped(job)
            if exchange.open and exchange.task is not None and not exchange.task.done():
                self._spawn(self._questions.cancel(target, model, job.id))

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
        timeout = httpx.Timeout(self._options.liveness_s, connect=self._options.connect_s)
        with self._tracing.dispatch(model, target, jobs) as trace_headers:
            request = httpx.Request(
                "POST",
                _parsed(url_of(target, model)),
                content=orjson.dumps({"jobs": [job.wire() for job in jobs]}),
                headers={**JSON, **trace_headers},
                extensions={"timeout": timeout.as_dict()},
            )
            try:
                # Past the client, which would look after cookies, redirects and passwords. There are none, and it
                # takes as long for that as the transport for the exchange.
                response = await self._transport.handle_async_request(request)
                try:
                    if response.status_code != httpx.codes.OK:
                        raise Broken(failure_of(response.status_code, await response.aread()))
                    # Read on after the last end: behind the terminating chunk the connection can be used again.
                    async for line in lines_of(response.aiter_raw()):
                        exchange.line(line)
                finally:
                    await response.aclose()
            except httpx.ReadTimeout as error:
                raise Broken(Failure(Kind.BROKEN, "silent", "no sign of life from the worker")) from error
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                raise Broken(Failure(Kind.BUSY, "unreachable", repr(error))) from error
            except (httpx.HTTPError, OSError) as error:
                raise Broken(Failure(Kind.BROKEN, "broken_off", repr(error))) from error
            if exchange.open:
                raise Broken(exchange.shortfall())

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
