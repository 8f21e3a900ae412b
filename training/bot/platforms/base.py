"""What a platform must be able to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Posted:
    """A post that is out. `again`: the platform had it already, from an attempt whose answer was lost."""

    remote_id: str | None = None
    url: str | None = None
    again: bool = False


class Platform(Protocol):
    """One account on one platform."""

    name: str
    account: str
    resend_s: float
    """For so many seconds after a reservation the platform recognises a repetition; 0: never send again."""

    def limit(self) -> int:
        """The longest post, in the measure of `length`."""

    def length(self, text: str) -> int:
        """How long the platform takes `text` to be."""

    def new_key(self) -> str:
        """A name for a new post; the same one goes with each attempt to send it."""

    def send(self, text: str, key: str, *, again: bool) -> Posted:
        """Post `text`. `again`: an earlier run may have posted it under this key.

        Raises Refused for this text, else AuthFailed, RateLimited, PlatformDown.
        """

    def close(self) -> None: ...
