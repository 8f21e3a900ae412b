"""The gateway's parts put together: one queue per model, one client for all workers, shared bookkeeping."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import secrets
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

import httpx
import structlog

from api.batcher import Batcher, Limits
from api.catalog import Catalog
from api.errors import GatewayError, GenerationFailed, InvalidRequest, ModelNotFound, Overloaded
from api.jobs import Job
from api.keys import Caller, KeyRing
from api.metrics import Metrics
from api.places import Places
from api.plan import Plan
from api.quotas import Quotas
from api.reviver import Reviver
from api.sessions import Memory, Sessions
from api.settings import Settings
from api.shared_sessions import redis_sessions
from api.torchserve import Management
from api.tracing import tracing_to
from api.worker import WorkerClient, WorkerOptions
from deploy import models_file
from deploy.models_file import ModelEntry

log = structlog.get_logger("api.gateway")


class Gateway:
    """Lives as long as the app. `transport` replaces the network towards TorchServe."""

    def __init__(self, settings: Settings, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.settings = settings
        self.models = models_file.load(settings.models_file)
        self.metrics = Metrics()
        self.keys = KeyRing(settings.key_file) if settings.key_file is not None else None
        self.quotas = Quotas(
            max_streams=settings.max_streams_per_key, rate=settings.requests_per_second_per_key
        )
        self.sessions = self._sessions()
        self.tracing = tracing_to(settings.otel_endpoint, settings.otel_share)
        self.places = Places(settings)
        self.places.on_change = self._moved
        self.worker = WorkerClient(
            self.places.inference,
            WorkerOptions(
                connect_s=settings.connect_s,
                liveness_s=settings.liveness_s,
                retry_base_s=settings.retry_base_s,
                retry_max_s=settings.retry_max_s,
                eject_s=settings.eject_s,
                describe_s=settings.describe_s,
            ),
            self.metrics,
            transport,
            self.tracing,
        )
        self.management = Management(self.worker.client)
        self.catalog = Catalog(
            self.models,
            self.worker,
            self.management,
            self.places,
            Reviver(self.management, self.metrics, settings.revive_after_s),
            self.metrics,
            settings.ready_cache_s,
        )
        self.batchers = {name: self._batcher(entry) for name, entry in self.models.models.items()}
        self.accepting = True
        self._numbers = itertools.count(secrets.randbits(40))
        self._watcher: asyncio.Task[None] | None = None
        self._draining: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()

    def management_urls(self, model: str) -> list[str]:
        """The management ports of all TorchServes that serve `model`."""
        return self.places.management(model)

    def start(self) -> None:
        """Begin to watch the workers. Needs a running event loop."""
        self._watcher = asyncio.create_task(self.catalog.watch(), name="catalog")

    def begin_drain(self) -> None:
        """Refuse new work, and answer what is in hand: with its text, or after `drain_s` with an error."""
        if self._draining is None:
            self.accepting = False
            log.info("draining", seconds=self.settings.drain_s)
            self._draining = asyncio.create_task(self._drain(), name="drain")

    async def stop(self) -> None:
        self.begin_drain()
        if self._draining is not None:
            await self._draining
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.worker.aclose()
        await self.sessions.aclose()
        await asyncio.to_thread(self.tracing.shutdown)

    def reload_models(self) -> dict[str, list[str]]:
        """Read the models file again: names added, removed and changed. Raises `InvalidRequest`, and changes
        nothing, when it cannot be used. Work in hand for a model that is gone is finished."""
        try:
            fresh = models_file.load(self.settings.models_file)
        except models_file.ModelsFileError as error:
            raise InvalidRequest(str(error)) from error
        before, after = self.models.models, fresh.models
        changes = {
            "added": [name for name in after if name not in before],
            "removed": [name for name in before if name not in after],
            "changed": [name for name in after if name in before and after[name] != before[name]],
        }
        for name in changes["added"]:
            self.batchers[name] = self._batcher(after[name])
        for name in changes["changed"]:
            batcher = self.batchers[name]
            batcher.limits = self._limits(after[name])
            self.metrics.watch_queue(name, batcher)
        self.models = self.catalog.models = fresh
        for name in changes["removed"]:
            self.spawn(self._retire(name, self.batchers.pop(name)))
        return changes

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Carry out `work` beside the requests; `stop` waits for it."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _retire(self, name: str, batcher: Batcher) -> None:
        error = GenerationFailed(f"model {name} is no longer served")
        await batcher.close(error, drain_s=self.settings.drain_s)
        if name not in self.models.models:
            self.metrics.forget(name)

    def jobs(
        self,
        plan: Plan,
        request_id: str,
        caller: Caller,
        samples: Iterable[tuple[int, int]],
        *,
        stream: bool,
    ) -> list[Job]:
        """Jobs for pairs of (prompt index, sample index), submitted all or none. `stream`: somebody reads the
        texts as they grow. Raises `Overloaded`."""
        if not self.accepting:
            raise Overloaded("the gateway is about to stop", reason="stopping")
        batcher = self.batchers.get(plan.model)
        if batcher is None:
            raise ModelNotFound(f"model {plan.model!r} is no longer served", field="model")
        jobs = []
        # One draw for all: the answers to one request come from one release.
        draw, trace_context = random.random(), self.tracing.context()  # noqa: S311 - keeps no secret
        for prompt, sample in samples:
            job = Job(
                # Callers may use one request id for many requests; a job's own must be unique.
                f"{request_id[:100]}.{next(self._numbers):x}",
                {**plan.job_fields(prompt, sample), "stream": stream},
                cost=plan.cost(prompt),
                deadline_s=self.settings.deadline_s,
                lane=caller.name,
                draw=draw,
            )
            job.trace_context = trace_context
            jobs.append(job)
        try:
            batcher.submit(jobs)
        except GatewayError as error:
            for job in jobs:
                job.fail(error)
            raise
        observe = self._observer(plan.model)
        for job in jobs:
            job.on_done.append(observe)
        return jobs

    def rejected(self, model: str, error: Overloaded) -> None:
        self.metrics.rejections.labels(model, error.reason).inc()

    async def _drain(self) -> None:
        error = GenerationFailed("the gateway stops and could not finish this request")
        drains = (b.close(error, drain_s=self.settings.drain_s) for b in self.batchers.values())
        await asyncio.gather(*drains)

    def _sessions(self) -> Sessions:
        settings = self.settings
        sessions, texts, ttl_s = settings.max_sessions, settings.max_session_texts, settings.session_ttl_s
        memory = Memory(
            max_sessions=sessions, max_texts=texts, max_total=settings.max_remembered_texts, ttl_s=ttl_s
        )
        if settings.redis_url is None:
            return Sessions(memory)
        shared = redis_sessions(
            settings.redis_url.get_secret_value(),
            prefix=settings.redis_prefix,
            max_sessions=sessions,
            max_texts=texts,
            ttl_s=ttl_s,
            timeout_s=settings.redis_timeout_s,
            observe=self.metrics.session_store.labels("redis").set,
        )
        return Sessions(memory, shared)

    def _limits(self, entry: ModelEntry) -> Limits:
        settings = self.settings
        groups = self.places.found(entry.name) or entry.replicas
        workers = max(entry.cpu_workers, math.ceil(entry.gpus) * entry.workers_per_gpu) * groups
        return Limits(
            queue_cost=settings.max_queue_tokens or entry.queue_tokens,
            starting=settings.starting_dispatches * workers,
            open=settings.open_dispatches * workers,
            batch=settings.dispatch_jobs,
            inflight=math.ceil(entry.slots * workers * settings.inflight_per_slot),
            spread=workers,
        )

    def _moved(self, model: str) -> None:
        """Other machines hold the model now: ask them, and send as much as they can take."""
        self.worker.pool(model).settle(self.places.inference(model))
        if model in self.batchers:
            self.batchers[model].limits = self._limits(self.models.models[model])

    def _batcher(self, entry: ModelEntry) -> Batcher:
        async def send(jobs: Sequence[Job], started: Callable[[], None]) -> None:
            await self.worker.run(entry.name, jobs, started)

        sizes = self.metrics.dispatch_jobs.labels(entry.name)
        batcher = Batcher(send, self._limits(entry), on_dispatch=sizes.observe)
        self.metrics.watch_queue(entry.name, batcher)
        return batcher

    def _observer(self, model: str) -> Callable[[Job], None]:
        return lambda job: self.metrics.observe_job(model, job, time.monotonic())
