"""Requests that a site's owner will not mind: one at a time, with pauses, a name, and limits."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType

import httpx

from inkwell import __version__
from training.errors import FetchError, UserError

_TRIES = 4
_RETRIED = (429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Answer:
    """One answer. `headers` have lower-case names; `cut`: the body was longer than allowed and is not all here."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cut: bool = False

    @property
    def media_type(self) -> str:
        """Such as text/html."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def charset(self) -> str | None:
        """The encoding that the site declares, if it does."""
        for part in self.headers.get("content-type", "").split(";")[1:]:
            name, _, value = part.partition("=")
            if name.strip().lower() == "charset":
                return value.strip("\"' ") or None
        return None


@dataclass
class Polite:
    """One connection. `contact`: an address for complaints. `delay`: seconds between two requests. `patience`:
    the longest pause that a site may ask for before it is given up."""

    contact: str
    delay: float = 1.0
    page_bytes: int = 5_000_000
    patience: float = 120.0
    timeout: float = 20.0
    agent: str = "inkwell"
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], float] = time.time
    received: int = field(default=0, init=False)
    _last: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if "@" not in self.contact and not self.contact.startswith(("http://", "https://")):
            raise UserError(f"contact is {self.contact!r}; an e-mail address or a web page is needed")
        for name in ("delay", "patience"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        headers = {
            "User-Agent": f"{self.agent}/{__version__} (+{self.contact})",
            "Accept": "text/html,application/xhtml+xml,text/plain;q=0.8",
        }
        self._client = httpx.Client(headers=headers, timeout=self.timeout, follow_redirects=False)

    def __enter__(self) -> Polite:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        """The answer to one request; repeated where the site asks for patience or stumbles. Raises FetchError
        naming the address and the reason."""
        for tries in range(1, _TRIES + 1):
            self._wait()
            try:
                answer = self._once(url, headers or {})
                reason = f"answers {answer.status}"
            except httpx.HTTPError as error:
                answer, reason = None, f"cannot be reached ({error or type(error).__name__})"
            if answer is not None and answer.status not in _RETRIED:
                return answer
            if tries == _TRIES:
                break
            asked = None if answer is None else self._asked(answer)
            pause = asked if asked is not None else max(self.delay, 0.5) * 2 ** (tries - 1)
            if pause > self.patience:
                raise FetchError(
                    f"{url}: {reason} and asks for {pause:.0f} s; --patience allows {self.patience:g}"
                )
            self.sleep(pause)
        if answer is not None and url.endswith("/robots.txt"):
            return answer  # what a failing robots.txt means is for the reader of the rules to say
        raise FetchError(f"{url}: {reason}, {_TRIES} times")

    def _wait(self) -> None:
        if self._last is not None:
            left = self._last + self.delay - self.clock()
            if left > 0:
                self.sleep(left)
        self._last = self.clock()

    def _once(self, url: str, headers: Mapping[str, str]) -> Answer:
        with self._client.stream("GET", url, headers=dict(headers)) as response:
            parts: list[bytes] = []
            size = 0
            began = self.clock()
            for chunk in response.iter_bytes():
                if self.clock() - began > self.patience + self.timeout:
                    raise httpx.ReadTimeout("it drips in too slowly")
                size += len(chunk)
                self.received += len(chunk)
                if size > self.page_bytes:
                    return Answer(response.status_code, dict(response.headers), b"", cut=True)
                parts.append(chunk)
            return Answer(response.status_code, dict(response.headers), b"".join(parts))

    def _asked(self, answer: Answer) -> float | None:
        """Seconds of `Retry-After`, which holds a number or a date; None without one."""
        value = answer.headers.get("retry-after", "").strip()
        if value.isdigit():
            return float(value)
        try:
            return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - self.now())
        except ValueError:
            return None
