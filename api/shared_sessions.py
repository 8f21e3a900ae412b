"""Sessions in Redis, for gateways that share their callers.

A session is a sorted set of fingerprints, newest last, that expires with its session; the sessions of a caller are
a sorted set as well, which bounds their number. All keys share one hash slot, and what is asked is one round
trip of one transaction, so two gateways never both believe that a text is new.

Redis being away is no reason to refuse anybody: the gateway then knows only what it has given itself, says so in
the log and in its answers, and tells Redis of those texts when it is back.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import structlog

from api.sessions import Key

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = structlog.get_logger("api.sessions")

_PAUSE_S = 1.0  # Redis that has failed is left alone for so long: no request waits for it meanwhile
_REMEMBERED = 10_000  # texts given while it was away
_TOLD_AT_ONCE = 500  # of these, so that no request waits for all of them
_CONNECTIONS = 32


class SharedSessionsError(ValueError):
    """Shared sessions are asked for and cannot be had: a missing package, or an address that is none."""


class RedisSessions:
    """`max_sessions` of each caller, `max_texts` of each session, for `ttl_s` after its last use.

    `timeout_s` bounds what one question may take; `observe` hears whether the store answers.
    """

    def __init__(
        self,
        client: Redis,
        *,
        prefix: str,
        max_sessions: int,
        max_texts: int,
        ttl_s: float,
        timeout_s: float,
        observe: Callable[[bool], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._prefix = f"{{{prefix}}}"  # braces: what stands in them decides the slot
        self._max_sessions = max_sessions
        self._max_texts = max_texts
        self._ttl_s = ttl_s
        self._timeout_s = timeout_s
        self._observe = observe
        self._clock = clock
        self._away = False
        self._ask_again_at = float("-inf")
        self._missed: deque[tuple[Key, bytes]] = deque(maxlen=_REMEMBERED)

    async def claim(self, key: Key, mark: bytes) -> bool | None:
        """Remember the text of this fingerprint: True when it is new, False when it has been given before by any
        gateway, None when Redis does not answer."""
        if self._missed and not self._resting:
            await self._catch_up()
        replies = await self._ask([(key, [mark])])
        if replies is None:
            self._missed.append((key, mark))
            return None
        added, sessions = replies[0], replies[-1]
        if int(sessions) > self._max_sessions:
            await self._evict(key[0], int(sessions) - self._max_sessions)
        return int(added) == 1

    async def release(self, key: Key, marks: Iterable[bytes]) -> None:
        """Take claims back. Without Redis they stay, and the texts are not given in this session again."""
        taken = set(marks)
        kept = [entry for entry in self._missed if entry[0] != key or entry[1] not in taken]
        self._missed = deque(kept, maxlen=_REMEMBERED)

        async def ask() -> None:
            await self._client.zrem(self._texts_of(key), *taken)

        await self._carefully(ask)

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _catch_up(self) -> None:
        """Tell what was given while Redis was away; what cannot be told now waits for the next time."""
        missed = [self._missed.popleft() for _ in range(min(_TOLD_AT_ONCE, len(self._missed)))]
        by_session: dict[Key, list[bytes]] = {}
        for key, mark in missed:
            by_session.setdefault(key, []).append(mark)
        if await self._ask(list(by_session.items())) is None:
            self._missed.extendleft(reversed(missed))
        else:
            log.info("session_store_told", texts=len(missed))

    async def _ask(self, claims: list[tuple[Key, list[bytes]]]) -> list[Any] | None:
        """Claim all of these in one transaction; the replies, or None when Redis is away."""

        async def ask() -> list[Any]:
            now = self._clock()
            pipe = self._client.pipeline(transaction=True)
            for key, marks in claims:
                texts, sessions = self._texts_of(key), self._sessions_of(key[0])
                scores: dict[Any, Any] = dict.fromkeys(marks, now)
                pipe.zadd(texts, scores, nx=True)
                pipe.zadd(texts, scores, xx=True)  # given again: young again
                pipe.zremrangebyrank(texts, 0, -self._max_texts - 1)
                pipe.pexpire(texts, max(1, int(self._ttl_s * 1000)))
                pipe.zremrangebyscore(sessions, "-inf", now - self._ttl_s)
                pipe.zadd(sessions, {texts: now})
                pipe.pexpire(sessions, max(1, int(self._ttl_s * 1000)))
                pipe.zcard(sessions)
            replies: list[Any] = await pipe.execute()
            return replies

        answer: list[Any] | None = await self._carefully(ask)
        return answer

    async def _evict(self, caller: str, count: int) -> None:
        """Forget the caller's sessions that were not used for longest."""

        async def ask() -> None:
            popped: list[Any] = await self._client.zpopmin(self._sessions_of(caller), count)
            if popped:
                await self._client.unlink(*(name for name, _ in popped))

        await self._carefully(ask)

    async def _carefully(self, ask: Callable[[], Any]) -> Any:
        """What `ask` gives, or None while Redis is away; says once when it goes and once when it is back."""
        from redis.exceptions import RedisError

        if self._resting:
            return None
        try:
            answer = await asyncio.wait_for(ask(), self._timeout_s)
        except (RedisError, OSError, asyncio.TimeoutError) as error:
            self._ask_again_at = time.monotonic() + _PAUSE_S
            self._observe(False)
            if not self._away:
                self._away = True
                reason = repr(error) if str(error) else type(error).__name__
                log.error("session_store_away", error=reason, effect="sessions hold within this gateway only")
            return None
        self._observe(True)
        if self._away:
            self._away = False
            log.warning("session_store_back", missed=len(self._missed))
        return answer

    @property
    def _resting(self) -> bool:
        return time.monotonic() < self._ask_again_at

    def _texts_of(self, key: Key) -> str:
        # Names that callers choose are hashed: any length, any characters, and nothing of them lies in Redis.
        return f"{self._prefix}:session:{_digest(*key)}"

    def _sessions_of(self, caller: str) -> str:
        return f"{self._prefix}:sessions:{_digest(caller)}"


def _digest(*parts: str) -> str:
    whole = b"".join(len(raw).to_bytes(4, "big") + raw for raw in map(_raw, parts))
    return hashlib.blake2b(whole, digest_size=16).hexdigest()


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def redis_sessions(url: str, *, timeout_s: float, **limits: Any) -> RedisSessions:
    """Sessions in the Redis at `url` (`redis://`, `rediss://` or `unix://`). Does not connect yet.

    Raises `SharedSessionsError` when the package is missing or the address is none.
    """
    try:
        from redis.asyncio import BlockingConnectionPool, Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError as error:
        raise SharedSessionsError(
            f"redis_url is set, and its package is not installed ({error.name}): pip install 'inkwell[redis]'"
        ) from error
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),  # a caller waits: better an answer that knows less
            max_connections=_CONNECTIONS,
            timeout=timeout_s,
        )
    except ValueError as error:
        raise SharedSessionsError(f"redis_url must be an address of Redis: {error}") from error
    return RedisSessions(Redis.from_pool(pool), timeout_s=timeout_s, **limits)
