"""What has been given in a session, so that it is not given again: bounded, and forgotten after a while.

Texts are kept as fingerprints of 16 bytes, so a session of long texts costs no more than one of names.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, Protocol

Key = tuple[str, str, str]  # caller, model, session
Scope = Literal["gateway", "shared"]  # who was asked whether a text is new: this process, or all replicas

_SWEEPS = 16  # in the time of a session


def same_text(text: str) -> str:
    """Two texts count as one when they differ in case or surrounding space only."""
    return " ".join(text.split()).casefold()


def fingerprint(text: str) -> bytes:
    """16 bytes that are the same for texts that count as one."""
    return hashlib.blake2b(same_text(text).encode("utf-8", "surrogatepass"), digest_size=16).digest()


@dataclass
class _Session:
    used: float
    marks: OrderedDict[bytes, None] = field(default_factory=OrderedDict)


class Memory:
    """The sessions that this process knows of.

    A caller's least recently used session, and a session's oldest text, make room for new ones. When all
    callers together hold more than `max_total` texts, the one that holds most loses its oldest: nobody's
    sessions push out those of a caller who has few.
    """

    def __init__(
        self,
        *,
        max_sessions: int,
        max_texts: int,
        max_total: int,
        ttl_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_sessions = max_sessions
        self._max_texts = max_texts
        self._max_total = max_total
        self._ttl_s = ttl_s
        self._clock = clock
        self._callers: dict[str, OrderedDict[Key, _Session]] = {}
        self._held: Counter[str] = Counter()  # texts of each caller
        self._total = 0
        self._swept = clock()

    def __len__(self) -> int:
        """How many sessions are remembered."""
        self._sweep()
        return sum(len(sessions) for sessions in self._callers.values())

    @property
    def texts(self) -> int:
        """How many texts are remembered in all."""
        return self._total

    def claim(self, key: Key, mark: bytes) -> bool:
        """Remember the text of this fingerprint; False when it has been given in this session before."""
        now = self._clock()
        if now - self._swept > self._ttl_s / _SWEEPS:
            self._sweep()
        known = self._session(key)
        if known is not None and now - known.used > self._ttl_s:
            self._drop(key)
        sessions = self._callers.setdefault(key[0], OrderedDict())
        session = sessions.setdefault(key, _Session(now))
        session.used = now
        sessions.move_to_end(key)
        if mark in session.marks:
            session.marks.move_to_end(mark)
            return False
        session.marks[mark] = None
        self._count(key, 1)
        self._make_room(key)
        return True

    def release(self, key: Key, mark: bytes) -> None:
        """Take a claim back: the text was not given after all."""
        session = self._session(key)
        if session is not None and mark in session.marks:
            del session.marks[mark]
            self._count(key, -1)

    def _session(self, key: Key) -> _Session | None:
        sessions = self._callers.get(key[0])
        return None if sessions is None else sessions.get(key)

    def _make_room(self, key: Key) -> None:
        sessions = self._callers[key[0]]
        while len(sessions) > self._max_sessions:
            self._drop(next(iter(sessions)))
        if len(sessions[key].marks) > self._max_texts:
            self._drop_text(key)
        if self._total > self._max_total:
            greediest = max(self._held, key=self._held.__getitem__)
            self._drop_text(next(iter(self._callers[greediest])))

    def _count(self, key: Key, texts: int) -> None:
        self._held[key[0]] += texts
        self._total += texts

    def _drop_text(self, key: Key) -> None:
        session = self._callers[key[0]][key]
        if session.marks:
            session.marks.popitem(last=False)
            self._count(key, -1)
        if not session.marks:
            self._drop(key)

    def _drop(self, key: Key) -> None:
        sessions = self._callers[key[0]]
        self._count(key, -len(sessions.pop(key).marks))
        if not sessions:
            del self._callers[key[0]]
            del self._held[key[0]]

    def _sweep(self) -> None:
        self._swept = self._clock()
        oldest = self._swept - self._ttl_s
        for sessions in list(self._callers.values()):
            # In the order of their use: the first that is young enough ends the search.
            for key in list(sessions):
                if sessions[key].used >= oldest:
                    break
                self._drop(key)


class Shared(Protocol):
    """A store that several gateways ask; it never raises for being away."""

    async def claim(self, key: Key, mark: bytes) -> bool | None:
        """Whether the text is new to all gateways; None when the store cannot say."""

    async def release(self, key: Key, marks: Iterable[bytes]) -> None: ...

    async def aclose(self) -> None: ...


class Sessions:
    """The memory of this process and, where one is set, the store that it shares with others.

    While the store is away this process still knows what it has given itself, and says that this is all.
    """

    def __init__(self, memory: Memory, shared: Shared | None = None) -> None:
        self._memory = memory
        self._shared = shared

    async def claim(self, key: Key, text: str) -> Scope | None:
        """Remember `text`, and tell to whom it is new; None when it has been given in this session before."""
        mark = fingerprint(text)
        if not self._memory.claim(key, mark):
            return None
        if self._shared is None:
            return "gateway"
        new = await self._shared.claim(key, mark)
        if new is None:
            return "gateway"
        return "shared" if new else None

    async def release(self, key: Key, texts: Iterable[str]) -> None:
        """Take claims back: these texts were not given after all."""
        marks = [fingerprint(text) for text in texts]
        for mark in marks:
            self._memory.release(key, mark)
        if self._shared is not None and marks:
            await self._shared.release(key, marks)

    async def aclose(self) -> None:
        if self._shared is not None:
            await self._shared.aclose()
