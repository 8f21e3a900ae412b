"""Standard output, for pipes and for looking."""

from __future__ import annotations

import sys
import uuid

from training.bot.platforms.base import Posted


class Stdout:
    """As long as anybody likes; still never the same text twice."""

    name = "stdout"
    account = ""
    resend_s = 0.0

    def limit(self) -> int:
        return sys.maxsize

    def length(self, text: str) -> int:
        return len(text)

    def new_key(self) -> str:
        return uuid.uuid4().hex

    def send(self, text: str, key: str, *, again: bool) -> Posted:  # noqa: ARG002 - nothing to recognise by
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
        return Posted()

    def close(self) -> None:
        pass
