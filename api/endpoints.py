"""Where a model can be asked: every version of it on every TorchServe, and which of these to take.

A further worker of a release is registered as a version of its own, `1.0-w2` beside `1.0`, because
TorchServe's workers of one version hold each other up; so a release has as many targets as workers.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

_WORKER = re.compile(r"-w\d+$")
_LONGEST_EJECTION = 8


def release_of(version: str) -> str:
    """The release that a version belongs to.

    >>> release_of("1.0-w2"), release_of("1.0")
    ('1.0', '1.0')
    """
    return _WORKER.sub("", version)


@dataclass(eq=False)
class Target:
    """One version on one TorchServe; `version` None means its default version.

    `outstanding` counts the estimated tokens on their way; `sick_until` and `used_at` are monotonic times.
    """

    url: str
    version: str | None = None
    ready: bool = True
    outstanding: int = 0
    sick_until: float = 0.0
    failures: int = 0
    used_at: float = 0.0

    @property
    def release(self) -> str | None:
        return None if self.version is None else release_of(self.version)


class Pool:
    """The targets of one model, and the share of its requests that each release gets.

    A target that failed is passed over for `eject_s`, longer each time in a row, until it is re-admitted.
    """

    def __init__(self, urls: list[str], eject_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.targets = [Target(url) for url in urls]
        self.default: str | None = None
        self.weights: dict[str, float] = {}
        self.draining: set[str] = set()
        # Versions on their way in or out, which are asked for nothing.
        self.withheld: set[str] = set()
        self.busy: Counter[str | None] = Counter()
        self._eject_s = eject_s
        self._clock = clock

    @property
    def releases(self) -> list[str]:
        """All releases known, in the order in which they were found."""
        return list(dict.fromkeys(t.release for t in self.targets if t.release is not None))

    def learn(self, found: Mapping[str, Mapping[str, bool]], default: str | None) -> None:
        """Take over what each URL serves: version -> is it ready. A URL with none keeps what was known."""
        for url, versions in found.items():
            if not versions:
                continue
            known = {target.version: target for target in self.targets if target.url == url}
            fresh = [
                known.get(version) or Target(url, version)
                for version in versions
                if version not in self.withheld
            ]
            if not fresh:
                continue
            for target in fresh:
                target.ready = versions[str(target.version)]
            urls = list(dict.fromkeys([target.url for target in self.targets] + [url]))
            by_url = {one: [target for target in self.targets if target.url == one] for one in urls}
            self.targets = [target for group in (by_url | {url: fresh}).values() for target in group]
        self.default = None if default is None else release_of(default)
        for gone in set(self.weights) - set(self.releases):
            del self.weights[gone]
        self.draining &= set(self.releases)

    def settle(self, urls: Sequence[str]) -> None:
        """The model lives at `urls` now, in this order: one that stays keeps its targets, one that is gone is
        asked for nothing more. What it has in hand goes on."""
        held = {url: [target for target in self.targets if target.url == url] for url in urls}
        self.targets = [target for url in urls for target in held[url] or [Target(url)]]

    def share(self, release: str) -> float:
        """The part of new requests that goes to `release`."""
        weights = self._shares()
        total = sum(weights.values())
        return weights.get(release, 0.0) / total if total else 0.0

    def choose(self, draw: float) -> str | None:
        """The release for a request that drew `draw`, a number from 0 to below 1; None leaves it open."""
        weights = self._shares()
        mark = draw * sum(weights.values())
        for release, weight in weights.items():
            mark -= weight
            if mark < 0:
                return release
        return next(iter(weights), None)

    def pick(self, release: str | None) -> Target:
        """The least loaded target that is well; with none well, the one that recovers first: work is tried,
        never refused here. Raises `LookupError` when no target has the release."""
        now = self._clock()
        if release is None and self.default in self.releases:
            release = self.default
        held = [t for t in self.targets if release is None or t.release in (release, None)]
        if not held:
            raise LookupError(f"no version of release {release} is registered")
        well = [t for t in held if t.ready and t.sick_until <= now]
        if well:
            target = min(well, key=lambda t: (t.outstanding, t.used_at))
        else:
            target = min(held, key=lambda t: (not t.ready, t.sick_until, t.used_at))
        target.used_at = now
        return target

    def failed(self, target: Target) -> None:
        """Pass the target over for a while."""
        target.failures += 1
        longer = min(_LONGEST_EJECTION, 2 ** (target.failures - 1))
        target.sick_until = self._clock() + self._eject_s * longer

    def answered(self, target: Target) -> None:
        """Re-admit the target."""
        target.failures = 0
        target.sick_until = 0.0

    def withhold(self, version: str) -> list[Target]:
        """Ask nothing more of `version`, until it is struck from `withheld`; the targets this takes out."""
        self.withheld.add(version)
        leaving = [target for target in self.targets if target.version == version]
        if len(leaving) < len(self.targets):
            self.targets = [target for target in self.targets if target not in leaving]
        return leaving

    def lost(self, target: Target) -> None:
        """The target is not registered there any more; the last one of all stays, to be tried again."""
        if len(self.targets) > 1 and target in self.targets:
            self.targets.remove(target)

    @contextmanager
    def working(self, release: str | None) -> Iterator[None]:
        """Count one piece of work with `release`, retries and their pauses included."""
        self.busy[release] += 1
        try:
            yield
        finally:
            self.busy[release] -= 1
            if not self.busy[release]:
                del self.busy[release]

    def _shares(self) -> dict[str, float]:
        known = [release for release in self.releases if release not in self.draining]
        weighted = {release: w for release, w in self.weights.items() if w > 0 and release in known}
        if weighted:
            return weighted
        if self.default in known:
            return {str(self.default): 1.0}
        return {known[0]: 1.0} if known else {}
