"""What has been given in a session, so that it is not given again: bounded, and forgotten after a while."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

Key = tuple[str, str, str]  # caller, model, session


def same_text(text: str) -> str:
    """Two texts count as one when they differ in case or surrounding space only."""
    return " ".join(text.split()).casefold()


@dataclass
class _Session:
    used: float
    texts: OrderedDict[str, None] = field(default_factory=OrderedDict)


class Sessions:
    """Least recently used sessions, and the oldest texts of a session, make room for new ones."""

    def __init__(
        self, *, max_sessions: int, max_texts: int, ttl_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_sessions = max_sessions
        self._max_texts = max_texts
        self._ttl_s = ttl_s
        self._clock = clock
        self._sessions: OrderedDict[Key, _Session] = OrderedDict()

    def __len__(self) -> int:
        self._forget()
        return len(self._sessions)

    def claim(self, key: Key, text: str) -> bool:
        """Remember `text`; False when it has been given in this session before."""
        self._forget()
        session = self._sessions.setdefault(key, _Session(self._clock()))
        session.used = self._clock()
        self._sessions.move_to_end(key)
        while len(self._sessions) > self._max_sessions:
            self._sessions.popitem(last=False)
        known = same_text(text)
        if known in session.texts:
            session.texts.move_to_end(known)
            return False
        session.texts[known] = None
        while len(session.texts) > self._max_texts:
            session.texts.popitem(last=False)
        return True

    def release(self, key: Key, text: str) -> None:
        """Take a claim back: the text was not given after all."""
        session = self._sessions.get(key)
        if session is not None:
            session.texts.pop(same_text(text), None)

    def _forget(self) -> None:
        oldest = self._clock() - self._ttl_s
        while self._sessions:
            key = next(iter(self._sessions))
            if self._sessions[key].used >= oldest:
                return
            del self._sessions[key]
