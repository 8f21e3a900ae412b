"""What the gateway counts, in a registry of its own per app."""

from __future__ import annotations

import asyncio
from collections import Counter as Counts
from collections.abc import Collection, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from api.batcher import Batcher
from api.endpoints import Pool
from api.errors import Cancelled, Overloaded
from api.jobs import Job, JsonObject
from api.torchserve import VersionState

_SECONDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
)  # fmt: skip
_TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
_SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_JOBS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Metric objects by name; `model` labels hold served names only, so their number is bounded."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self._steps: dict[str, tuple[int, int]] = {}
        self.requests = Counter(
            "inkwell_requests_total", "HTTP requests", ["route", "model", "status"], registry=r
        )
        self.request_seconds = Histogram(
            "inkwell_request_seconds", "Whole HTTP request", ["route", "model"], buckets=_SECONDS, registry=r
        )
        self.tasks = Gauge("inkwell_tasks", "Asyncio tasks of the gateway", registry=r)
        self.tasks.set_function(_tasks)
        self.jobs = Counter("inkwell_jobs_total", "Jobs by outcome", ["model", "outcome"], registry=r)
        self.queue_seconds = Histogram(
            "inkwell_queue_seconds", "Wait in the gateway's queue", ["model"], buckets=_SECONDS, registry=r
        )
        self.first_token_seconds = Histogram(
            "inkwell_time_to_first_token_seconds",
            "Acceptance to first token",
            ["model"],
            buckets=_SECONDS,
            registry=r,
        )
        self.inter_token_seconds = Histogram(
            "inkwell_inter_token_seconds", "Mean gap between tokens", ["model"], buckets=_SECONDS, registry=r
        )
        self.job_seconds = Histogram(
            "inkwell_job_seconds", "Acceptance to end of one job", ["model"], buckets=_SECONDS, registry=r
        )
        self.generated = Counter("inkwell_generated_tokens_total", "Tokens made", ["model"], registry=r)
        self.prompted = Counter("inkwell_prompt_tokens_total", "Tokens of prompts", ["model"], registry=r)
        self.answer_tokens = Histogram(
            "inkwell_answer_tokens", "Tokens of one answer", ["model"], buckets=_TOKENS, registry=r
        )
        self.dispatch_jobs = Histogram(
            "inkwell_dispatch_jobs", "Jobs that left in one POST", ["model"], buckets=_JOBS, registry=r
        )
        self.waiting = Gauge("inkwell_queue_jobs", "Jobs waiting", ["model"], registry=r)
        self.waiting_tokens = Gauge("inkwell_queue_tokens", "Estimated tokens waiting", ["model"], registry=r)
        self.queue_limit = Gauge(
            "inkwell_queue_tokens_limit", "Most tokens that may wait", ["model"], registry=r
        )
        self.inflight = Gauge("inkwell_inflight_jobs", "Jobs with a worker", ["model"], registry=r)
        self.workers_ready = Gauge("inkwell_workers_ready", "READY workers last seen", ["model"], registry=r)
        self.workers_wanted = Gauge(
            "inkwell_workers_wanted", "Workers that should be READY", ["model"], registry=r
        )
        self.devices = Gauge(
            "inkwell_workers_on_device",
            "Workers that answer, by their device",
            ["model", "device"],
            registry=r,
        )
        self.slots = Gauge(
            "inkwell_slots", "Rows that the workers can generate at a time", ["model"], registry=r
        )
        self.slots_used = Gauge("inkwell_slots_in_use", "Rows taken when last seen", ["model"], registry=r)
        self.batch_rows = Gauge(
            "inkwell_batch_rows",
            "Mean rows of one step of the engines between the last two looks",
            ["model"],
            registry=r,
        )
        self.traffic = Gauge(
            "inkwell_traffic_share",
            "Part of new requests that goes to a release",
            ["model", "release"],
            registry=r,
        )
        self.outstanding = Gauge(
            "inkwell_outstanding_tokens", "Estimated tokens with the workers", ["model"], registry=r
        )
        self.rejections = Counter(
            "inkwell_rejections_total", "Requests refused before work began", ["model", "reason"], registry=r
        )
        self.retries = Counter("inkwell_retries_total", "Jobs sent again", ["model", "reason"], registry=r)
        self.ejections = Counter(
            "inkwell_ejections_total", "Times a worker endpoint was passed over", ["model"], registry=r
        )
        self.readmissions = Counter(
            "inkwell_readmissions_total", "Times an ejected endpoint answered a probe", ["model"], registry=r
        )
        self.revivals = Counter(
            "inkwell_revivals_total", "Times dead workers were asked for again", ["model"], registry=r
        )
        self.redraws = Counter(
            "inkwell_redraws_total", "Texts dropped and drawn again", ["model", "reason"], registry=r
        )
        self.novelty_rejections = Counter(
            "inkwell_novelty_rejections_total", "Texts dropped as copies of the corpus", ["model"], registry=r
        )
        self.duplicates = Counter(
            "inkwell_duplicates_total", "Texts dropped because they were given before", ["model"], registry=r
        )
        self.novelty_ratio = Histogram(
            "inkwell_novelty_ratio",
            "Share of an answer that repeats the corpus, where asked for",
            ["model"],
            buckets=_SHARES,
            registry=r,
        )
        self.session_store = Gauge(
            "inkwell_session_store_up", "Whether the store of shared sessions answers", ["store"], registry=r
        )
        self.admin = Counter("inkwell_admin_total", "Admin actions", ["action", "outcome"], registry=r)

    def watch_queue(self, model: str, batcher: Batcher) -> None:
        """Read a batcher's figures whenever the page is scraped."""
        self.waiting.labels(model).set_function(lambda: batcher.waiting)
        self.waiting_tokens.labels(model).set_function(lambda: batcher.waiting_cost)
        self.inflight.labels(model).set_function(lambda: batcher.inflight)
        self.queue_limit.labels(model).set(batcher.limits.queue_cost)

    def forget(self, model: str) -> None:
        """Stop exporting what hangs on a model that is no longer served."""
        for gauge in (
            self.waiting, self.waiting_tokens, self.inflight, self.queue_limit, self.workers_ready,
            self.workers_wanted, self.slots, self.slots_used, self.batch_rows, self.outstanding,
        ):  # fmt: skip
            gauge.remove_by_labels({"model": model})
        self.traffic.remove_by_labels({"model": model})
        self.devices.remove_by_labels({"model": model})

    def observe_model(
        self, model: str, versions: Sequence[VersionState], cards: Collection[JsonObject], pool: Pool
    ) -> None:
        """Take over one look at a model's workers."""
        self.workers_ready.labels(model).set(sum(version.ready for version in versions))
        self.workers_wanted.labels(model).set(sum(version.wanted for version in versions))
        engines = [card.get("engine") or {} for card in cards]
        self.slots.labels(model).set(sum(int(card.get("slots") or 0) for card in cards))
        self.slots_used.labels(model).set(sum(int(engine.get("active") or 0) for engine in engines))
        self.outstanding.labels(model).set_function(lambda: sum(t.outstanding for t in pool.targets))
        self.devices.remove_by_labels({"model": model})
        for device, count in Counts(str(card.get("device")) for card in cards).items():
            self.devices.labels(model, device).set(count)
        self.traffic.remove_by_labels({"model": model})
        for release in pool.releases:
            self.traffic.labels(model, release).set(pool.share(release))
        tokens = sum(int(engine.get("tokens_total") or 0) for engine in engines)
        steps = sum(int(engine.get("steps_total") or 0) for engine in engines)
        tokens_before, steps_before = self._steps.get(model, (tokens, steps))
        self._steps[model] = tokens, steps
        # A restarted worker counts from nothing again.
        made = steps > steps_before and tokens >= tokens_before
        rows = (tokens - tokens_before) / (steps - steps_before) if made else 0.0
        self.batch_rows.labels(model).set(rows)

    def redrawn(self, model: str, reason: str) -> None:
        """Count one text that was dropped for `reason`: copy, corpus, duplicate, session or syllables."""
        self.redraws.labels(model, reason).inc()
        if reason in ("copy", "corpus"):
            self.novelty_rejections.labels(model).inc()
        elif reason in ("duplicate", "session"):
            self.duplicates.labels(model).inc()

    def ejected(self, model: str, url: str) -> None:  # noqa: ARG002 - inside addresses are no labels
        self.ejections.labels(model).inc()

    def readmitted(self, model: str, url: str) -> None:  # noqa: ARG002 - as above
        self.readmissions.labels(model).inc()

    def retried(self, model: str, reason: str, jobs: int) -> None:
        self.retries.labels(model, reason).inc(jobs)

    def observe_job(self, model: str, job: Job, now: float) -> None:
        """Count a job that has ended."""
        self.jobs.labels(model, _outcome(job)).inc()
        if job.sent_at is not None:
            self.queue_seconds.labels(model).observe(job.sent_at - job.created)
        if job.start is not None:
            self.prompted.labels(model).inc(job.start.get("prompt_tokens") or 0)
        tokens = len(job.ids)
        self.generated.labels(model).inc(tokens)
        if job.first_token_at is not None and job.last_token_at is not None:
            self.first_token_seconds.labels(model).observe(job.first_token_at - job.created)
            if tokens > 1:
                self.inter_token_seconds.labels(model).observe(
                    (job.last_token_at - job.first_token_at) / (tokens - 1)
                )
        if job.end is not None:
            self.job_seconds.labels(model).observe(now - job.created)
            self.answer_tokens.labels(model).observe(tokens)
            if (ratio := (job.end.get("novelty") or {}).get("ratio")) is not None:
                self.novelty_ratio.labels(model).observe(ratio)

    def page(self) -> bytes:
        return generate_latest(self.registry)


def _tasks() -> float:
    try:
        return float(len(asyncio.all_tasks()))
    except RuntimeError:  # the page is made outside of a running loop
        return 0.0


def _outcome(job: Job) -> str:
    if job.end is not None:
        return str(job.end.get("finish_reason", "unknown"))
    if isinstance(job.error, Cancelled):
        return "cancelled"
    if isinstance(job.error, Overloaded):
        return "overloaded"
    return job.error.kind if job.error is not None else "unknown"
