"""What is served and how it fares: the models file joined with what the workers say."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import structlog

from api.endpoints import release_of
from api.errors import ModelNotFound
from api.jobs import JsonObject
from api.metrics import Metrics
from api.places import Places
from api.reviver import Reviver
from api.torchserve import Management, ManagementError, VersionState, WorkerState
from api.worker import WorkerClient
from deploy.models_file import ModelEntry, ModelsFile

log = structlog.get_logger("api.catalog")

_WATCH_S = 5.0


@dataclass(frozen=True)
class ModelState:
    """One look at a model. It is ready with a READY worker that has also answered."""

    versions: list[VersionState] = field(default_factory=list)
    default: str | None = None
    cards: dict[tuple[str, str | None], JsonObject] = field(default_factory=dict)
    seen_at: float = float("-inf")

    @property
    def workers(self) -> list[WorkerState]:
        return [worker for version in self.versions for worker in version.workers]

    @property
    def ready_workers(self) -> int:
        return sum(version.ready for version in self.versions)

    @property
    def card(self) -> JsonObject | None:
        """The card of the default release, else of any."""
        found = list(self.cards.values())
        for (_, version), card in self.cards.items():
            if version is not None and self.default is not None and release_of(version) == self.default:
                return card
        return found[0] if found else None

    @property
    def ready(self) -> bool:
        return self.ready_workers > 0 and bool(self.cards)


class Catalog:
    """Looks are shared: callers that ask at the same time, or soon after, get the same one."""

    def __init__(
        self,
        models: ModelsFile,
        worker: WorkerClient,
        management: Management,
        places: Places,
        reviver: Reviver,
        metrics: Metrics,
        cache_s: float,
    ) -> None:
        self.models = models
        self._worker = worker
        self._management = management
        self._places = places
        self._reviver = reviver
        self._metrics = metrics
        self._cache_s = cache_s
        self._states: dict[str, ModelState] = {}
        self._cards: dict[str, JsonObject] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def entry(self, name: str | None) -> ModelEntry:
        """The model called `name`; none, `tgi` or a URL mean the default. Raises `ModelNotFound`."""
        if not name or name == "tgi" or "://" in name:
            name = self.models.default_model
        entry = self.models.models.get(name)
        if entry is None:
            served = ", ".join(self.models.models)
            raise ModelNotFound(f"model {name!r} is not served; served are: {served}", field="model")
        return entry

    def card(self, name: str) -> JsonObject:
        """The last card seen; empty before the model has answered."""
        return self._cards.get(name, {})

    def version(self, name: str, release: str | None) -> str | None:
        """The version to tell a caller that `release` answered."""
        if release is not None:
            return release
        told = self.card(name).get("version")
        return None if told is None else str(told)

    async def state(self, name: str, *, fresh: bool = False) -> ModelState:
        """What is known of the model; looks again when that is old, or `fresh` is asked for."""
        async with self._locks.setdefault(name, asyncio.Lock()):
            known = self._states.get(name)
            if not fresh and known is not None and time.monotonic() - known.seen_at < self._cache_s:
                return known
            state = await self._look(name)
            self._states[name] = state
            return state

    async def states(self) -> dict[str, ModelState]:
        names = list(self.models.models)
        return dict(zip(names, await asyncio.gather(*map(self.state, names)), strict=True))

    async def watch(self) -> None:
        """Keep cards and figures fresh, and dead workers revived; runs until cancelled."""
        while True:
            try:
                for name, state in (await self.states()).items():
                    await self._reviver.look(name, state.versions)
            except Exception:
                # The watcher must outlive whatever a worker answers.
                log.exception("watch_failed")
            await asyncio.sleep(_WATCH_S)

    async def describe(self, name: str) -> JsonObject:
        """The public description of one model, for `/models`."""
        entry, state = self.models.models[name], await self.state(name)
        card = state.card or self.card(name)
        pool = self._worker.pool(name)
        return {
            "id": name,
            "family": entry.family,
            "default": name == self.models.default_model,
            "state": "ready" if state.ready else "starting" if state.workers else "unavailable",
            "version": card.get("version"),
            "versions": {release: round(pool.share(release), 4) for release in pool.releases},
            "parameters": card.get("parameters"),
            "vocabulary": card.get("vocabulary"),
            "context": card.get("context"),
            "tokenizer": card.get("tokenizer"),
            "categories": card.get("categories", []),
            "seed_words": card.get("seed_words", 0),
            "seed_word_sample": card.get("seed_word_sample", []),
            "limits": {**card.get("limits", {}), "max_new_tokens": entry.max_new_tokens},
            "defaults": card.get("defaults", {}),
            "metrics": card.get("metrics", {}),
            "device": card.get("device"),
            "runtime": card.get("runtime"),
            "runtimes": card.get("runtimes", {}),
            "slots": entry.slots,
            "workers": [_public(worker) for worker in state.workers],
            "placement": placement(state),
        }

    async def _look(self, name: str) -> ModelState:
        await self._places.look(name)
        urls = self._places.management(name)
        looks = await asyncio.gather(*(self._look_at(url, name) for url in urls))
        versions = [version for found, _ in looks for version in found]
        default = next((default for _, default in looks if default is not None), None)
        pool = self._worker.pool(name)
        pool.learn(self._by_inference(name, looks), default)
        # Without a word from the management ports the workers themselves may still answer.
        reachable = not versions or any(version.ready for version in versions)
        cards = await self._worker.cards(name) if reachable else {}
        release = None if default is None else release_of(default)
        state = ModelState(versions, release, cards, time.monotonic())
        if state.card is not None:
            self._cards[name] = state.card
        self._metrics.observe_model(name, versions, cards.values(), pool)
        return state

    async def _look_at(self, url: str, name: str) -> tuple[list[VersionState], str | None]:
        """An endpoint that cannot be asked counts as having none."""
        try:
            return await asyncio.gather(
                self._management.versions(url, name), self._management.default(url, name)
            )
        except ManagementError as error:
            log.debug("management_unreachable", endpoint=url, error=error.message)
            return [], None

    def _by_inference(
        self, name: str, looks: list[tuple[list[VersionState], str | None]]
    ) -> dict[str, dict[str, bool]]:
        """What each inference URL serves. The lists of both kinds of URL go together by place; where their
        lengths differ nothing is known of which machine serves what."""
        urls = list(dict.fromkeys(target.url for target in self._worker.pool(name).targets))
        if len(urls) != len(looks):
            return {}
        return {
            url: {version.version: version.ready > 0 for version in versions}
            for url, (versions, _) in zip(urls, looks, strict=True)
        }


def placement(state: ModelState) -> list[dict[str, Any]]:
    """Where a model really runs, as its workers themselves say: version, device, rows and runtime of each."""
    found = [
        {
            "version": version or card.get("version"),
            **{key: card.get(key) for key in ("device", "slots", "runtime")},
        }
        for (_, version), card in state.cards.items()
    ]
    return sorted(found, key=lambda one: (str(one["device"]), str(one["version"])))


def _public(worker: WorkerState) -> dict[str, Any]:
    # Addresses of the inside stay inside.
    return {name: value for name, value in asdict(worker).items() if name != "endpoint"}
