"""What an administrator does to the versions of a model, on all TorchServes that serve it.

No request is lost by any of it: a version is asked for nothing before it is ready, and is taken away only when
nothing is with it any more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from api.endpoints import Pool, release_of
from api.errors import Conflict, InvalidRequest, ModelNotFound, WorkersRefused
from api.gateway import Gateway
from api.jobs import JsonObject
from api.staging import Staging
from api.torchserve import ManagementError, VersionState
from deploy.archives import IndexEntry, worker_version

log = structlog.get_logger("api.rollout")

_DRAIN_LOOK_S = 0.02
_MOST_WORKERS = 64


class Rollout:
    """Changes of one model go one after another; those of different models do not wait for each other."""

    def __init__(self, gateway: Gateway, staging: Staging) -> None:
        self._gateway = gateway
        self.staging = staging
        self._locks: dict[str, asyncio.Lock] = {}

    async def describe(self, model: str) -> JsonObject:
        """Releases of a model with their share, workers and load, and the archives that could be registered."""
        name = self._gateway.catalog.entry(model).name
        state = await self._gateway.catalog.state(name, fresh=True)
        pool = self._gateway.worker.pool(name)
        releases = []
        for release in pool.releases:
            targets = [target for target in pool.targets if target.release == release]
            versions = [version for version in state.versions if release_of(version.version) == release]
            releases.append(
                {
                    "version": release,
                    "default": release == pool.default,
                    "share": round(pool.share(release), 4),
                    "draining": release in pool.draining,
                    "workers": sum(version.wanted for version in versions),
                    "ready": sum(version.ready for version in versions),
                    "outstanding_tokens": sum(target.outstanding for target in targets),
                    "dispatches": pool.busy[release],
                }
            )
        return {"id": name, "versions": releases, "weights": dict(pool.weights)}

    async def register(self, model: str, archive: str, workers: int) -> JsonObject:
        """Load a release beside those that are served; it gets no requests until it is made the default or
        given a weight. Nothing stays behind when a TorchServe refuses."""
        async with self._alone(model):
            release = await self._register(model, archive, workers)
            return {"version": release, **await self.describe(model)}

    async def unregister(self, model: str, release: str, timeout_s: float) -> JsonObject:
        """Drain a release and take it away. Raises `Conflict` for the default or when it does not drain."""
        async with self._alone(model):
            await self._unregister(model, release, timeout_s)
            return await self.describe(model)

    async def scale(self, model: str, release: str, workers: int) -> JsonObject:
        """Bring a release to `workers` worker processes on each TorchServe."""
        async with self._alone(model):
            have = len(await self._workers_of(model, release))
            if workers > have:
                entry = self._listed(model, release)
                await self._add_workers(entry, range(have, workers))
            for worker in reversed(range(workers, have)):
                await self._remove_worker(model, release, worker)
            return await self.describe(model)

    async def set_default(self, model: str, release: str) -> JsonObject:
        """Send the requests that no weight claims to `release`. Weights are dropped."""
        async with self._alone(model):
            await self._set_default(model, release)
            return await self.describe(model)

    async def weigh(self, model: str, weights: dict[str, float]) -> JsonObject:
        """Split new requests between releases; no weights at all mean the default release alone."""
        async with self._alone(model):
            pool = await self._pool(model)
            for release in weights:
                self._known(pool, model, release)
                if release in pool.draining:
                    raise Conflict(f"release {release!r} is being drained")
            if weights and not sum(weights.values()) > 0:
                raise InvalidRequest("weights must hold one above 0", field="weights")
            pool.weights = {release: weight for release, weight in weights.items() if weight > 0}
            return await self.describe(model)

    async def drain(self, model: str, release: str, timeout_s: float) -> JsonObject:
        """Send no new requests to a release and wait for those it has. It stays registered and drained."""
        async with self._alone(model):
            await self._drain(model, release, timeout_s)
            return await self.describe(model)

    async def undrain(self, model: str, release: str) -> JsonObject:
        """Let a drained release take requests again."""
        async with self._alone(model):
            pool = await self._pool(model)
            self._known(pool, model, release)
            pool.draining.discard(release)
            return await self.describe(model)

    async def roll(self, model: str, archive: str, workers: int | None, timeout_s: float) -> JsonObject:
        """Replace the default release by an archive's: register, make it the default, drain and unregister the
        one before. `workers` None means as many as that has."""
        async with self._alone(model):
            pool = await self._pool(model)
            before = pool.default
            if workers is None:
                workers = 1 if before is None else len(await self._workers_of(model, before))
            release = await self._register(model, archive, workers)
            await self._set_default(model, release)
            if before is not None and before != release:
                await self._unregister(model, before, timeout_s)
            return {"version": release, "replaced": before, **await self.describe(model)}

    def _alone(self, model: str) -> asyncio.Lock:
        name = self._gateway.catalog.entry(model).name
        return self._locks.setdefault(name, asyncio.Lock())

    async def _pool(self, model: str) -> Pool:
        await self._gateway.catalog.state(model, fresh=True)
        return self._gateway.worker.pool(model)

    @staticmethod
    def _known(pool: Pool, model: str, release: str) -> None:
        if release not in pool.releases:
            served = ", ".join(pool.releases) or "none"
            raise ModelNotFound(
                f"release {release!r} of model {model} is not registered; registered are: {served}",
                field="version",
            )

    def _listed(self, model: str, release: str) -> IndexEntry:
        for entry in self.staging.listed().values():
            if (entry.model, entry.version) == (model, release):
                return self.staging.check(entry.archive, model)
        raise Conflict(
            f"the store holds no archive of release {release!r} of model {model} for further workers"
        )

    async def _register(self, model: str, archive: str, workers: int) -> str:
        if not 1 <= workers <= _MOST_WORKERS:
            raise InvalidRequest(f"workers must be from 1 to {_MOST_WORKERS}; got {workers}", field="workers")
        entry = await asyncio.to_thread(self.staging.check, archive, model)
        pool = await self._pool(model)
        if entry.version in pool.releases:
            raise Conflict(f"release {entry.version!r} of model {model} is registered already")
        await self._add_workers(entry, range(workers))
        return entry.version

    async def _add_workers(self, entry: IndexEntry, numbers: range) -> None:
        """Register them, to be asked only once all are ready; none of them when one fails."""
        pool = self._gateway.worker.pool(entry.model)
        names = [worker_version(entry.version, worker) for worker in numbers]
        for name in names:
            pool.withhold(name)
        try:
            await self._register_workers(entry, numbers)
        finally:
            pool.withheld.difference_update(names)
            await self._gateway.catalog.state(entry.model, fresh=True)

    async def _register_workers(self, entry: IndexEntry, numbers: range) -> None:
        done: list[tuple[str, int]] = []
        urls = self._gateway.management_urls(entry.model)
        management, wait_s = self._gateway.management, self._gateway.settings.register_s
        try:
            for worker in numbers:
                folder = await asyncio.to_thread(self.staging.unpack, entry, worker)
                for url in urls:
                    # Noted first: a refusal can leave a version behind that has no worker.
                    done.append((url, worker))
                    await management.register(url, folder, timeout_s=wait_s)
                version = worker_version(entry.version, worker)
                await asyncio.gather(
                    *(management.ready(url, entry.model, version, timeout_s=wait_s) for url in urls)
                )
        except (ManagementError, Conflict) as error:
            await self._take_back(entry, done)
            if isinstance(error, Conflict):
                raise
            raise _refused(
                error, f"release {entry.version} of model {entry.model} could not be registered"
            ) from error

    async def _take_back(self, entry: IndexEntry, done: list[tuple[str, int]]) -> None:
        for url, worker in done:
            version = worker_version(entry.version, worker)
            try:
                await self._gateway.management.unregister(
                    url, entry.model, version, timeout_s=self._gateway.settings.register_s
                )
            except ManagementError as error:
                log.info("take_back_failed", model=entry.model, version=version, error=error.message)
            self.staging.remove(entry.model, entry.version, worker)

    async def _set_default(self, model: str, release: str) -> None:
        pool = await self._pool(model)
        self._known(pool, model, release)
        if release in pool.draining:
            raise Conflict(f"release {release!r} is being drained")
        for url in self._gateway.management_urls(model):
            try:
                await self._gateway.management.set_default(url, model, release)
            except ManagementError as error:
                raise _refused(error, f"release {release} could not be made the default") from error
        pool.weights.clear()
        await self._gateway.catalog.state(model, fresh=True)

    async def _drain(self, model: str, release: str, timeout_s: float) -> None:
        pool = await self._pool(model)
        self._known(pool, model, release)
        if release == pool.default:
            raise Conflict(
                f"release {release!r} is the default of model {model}; make another the default first"
            )
        pool.draining.add(release)
        if not await _until(lambda: not pool.busy[release], timeout_s):
            raise Conflict(
                f"release {release!r} still answers after {timeout_s:g} s; it stays registered and gets no new "
                "requests"
            )

    async def _unregister(self, model: str, release: str, timeout_s: float) -> None:
        await self._drain(model, release, timeout_s)
        for worker in reversed(range(len(await self._workers_of(model, release)))):
            await self._remove_worker(model, release, worker)
        await self._gateway.catalog.state(model, fresh=True)

    async def _remove_worker(self, model: str, release: str, worker: int) -> None:
        version = worker_version(release, worker)
        pool = self._gateway.worker.pool(model)
        leaving = pool.withhold(version)
        try:
            # What it has is finished before it goes.
            await _until(
                lambda: not any(target.outstanding for target in leaving), self._gateway.settings.drain_s
            )
            for url in self._gateway.management_urls(model):
                try:
                    await self._gateway.management.unregister(
                        url, model, version, timeout_s=self._gateway.settings.register_s
                    )
                except ManagementError as error:
                    what = f"version {version} of model {model} could not be unregistered"
                    raise _refused(error, what) from error
        finally:
            pool.withheld.discard(version)
            await self._gateway.catalog.state(model, fresh=True)
        await asyncio.to_thread(self.staging.remove, model, release, worker)

    async def _workers_of(self, model: str, release: str) -> list[VersionState]:
        """The release's versions on the TorchServe that has most of them."""
        state = await self._gateway.catalog.state(model, fresh=True)
        pool = self._gateway.worker.pool(model)
        self._known(pool, model, release)
        by_url: dict[str, list[VersionState]] = {}
        for version in state.versions:
            if release_of(version.version) == release:
                by_url.setdefault(version.endpoint, []).append(version)
        return max(by_url.values(), key=len)


async def _until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Whether `condition` came to hold in time; it is looked at again and again, being cheap."""
    give_up = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > give_up:
            return False
        await asyncio.sleep(_DRAIN_LOOK_S)
    return True


def _refused(error: ManagementError, what: str) -> WorkersRefused:
    if error.status == 405:
        return WorkersRefused(
            f"{what}: TorchServe's model API is off (enable_model_api=true in its configuration turns it on)"
        )
    said = f"TorchServe answered {error.status}: " if error.status else ""
    return WorkersRefused(f"{what}: {said}{error.message}")
