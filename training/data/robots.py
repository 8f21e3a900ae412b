"""What a site asks of programs: robots.txt as RFC 9309 reads it, with crawl delays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from training.errors import FetchError, UserError

MOST_BYTES = 512_000  # RFC 9309 asks for 500 KiB at least


@dataclass(frozen=True)
class Robots:
    """The rules of one site for one program."""

    rules: Any
    agent: str

    def allows(self, url: str) -> bool:
        """Whether the site lets the program have `url`."""
        return bool(self.rules.can_fetch(url, self.agent))

    @property
    def delay(self) -> float:
        """Seconds between two requests that the site asks for; 0 when it says nothing."""
        delay = float(self.rules.crawl_delay(self.agent) or 0.0)
        rate = self.rules.request_rate(self.agent)
        return max(delay, rate.seconds / rate.requests if rate and rate.requests else 0.0)


def parse_robots(text: str, agent: str) -> Robots:
    """Rules from the text of robots.txt; an empty one allows everything. Raises UserError without protego."""
    try:
        from protego import Protego
    except ImportError as error:
        raise UserError(f"scraping needs protego ({error}); pip install 'inkwell[sources]'") from None
    return Robots(Protego.parse(text), agent)


def robots_of(status: int, body: bytes, where: str, agent: str) -> Robots:
    """Rules from the answer to a request for robots.txt: none where there is no such file (4xx). Raises
    FetchError where the site is in trouble (5xx), since nobody knows then what it would allow."""
    if 200 <= status < 300:
        return parse_robots(body[:MOST_BYTES].decode("utf-8-sig", "replace"), agent)
    if 400 <= status < 500:
        return parse_robots("", agent)
    raise FetchError(f"{where} answers {status}: nobody knows what the site allows, so nothing is taken")
