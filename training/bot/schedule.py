"""A post every few hours from one process that stays: for Compose, systemd or a terminal.

    ├─ 00:00 ─ run ─ 04:00 ─ run, fails ─ 30 s ─ retry ─ 60 s ─ retry, posted ─ 08:00 ─ run …

Runs begin at whole multiples of the interval since midnight UTC, so that a process that is started anew keeps to
the same hours. What a later attempt may mend is tried again; refused credentials and bad options end the loop.
"""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from inkwell.errors import InkwellError
from training.bot.errors import AuthFailed, BotError
from training.bot.runs import Run, RunLog
from training.errors import TrainingError, UserError

_UNITS = {"m": 60.0, "h": 3600.0, "d": 86_400.0}
_LEAST = 60.0
_FIRST_PAUSE = 30.0


def interval(text: str) -> float:
    """Seconds of "4h", "30m" or "1d". Raises UserError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mhd])", text.strip())
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if seconds < _LEAST:
        raise UserError(f"--every {text!r} must be a minute or more, such as 30m, 4h or 1d")
    return seconds


def next_start(now: float, every: float) -> float:
    """The first multiple of `every` since midnight UTC after `now`, in seconds since 1970; a day that is no
    multiple of `every` begins anew at its midnight."""
    midnight = now - now % 86_400.0
    if every > 86_400.0:
        return now - now % every + every
    return min(midnight + ((now - midnight) // every + 1) * every, midnight + 86_400.0)


@dataclass(frozen=True)
class Schedule:
    """`retries`: attempts after the first that fails. `most_pause`: the longest wait between two, in seconds."""

    every: float
    retries: int = 3
    most_pause: float = 600.0

    def __post_init__(self) -> None:
        if self.retries < 0:
            raise UserError(f"--retries {self.retries} must be 0 or more")

    def pause(self, attempt: int, error: TrainingError | InkwellError) -> float:
        """Seconds to wait after the `attempt`-th failure: what the platform asks for, else twice as long each
        time."""
        asked: float | None = getattr(error, "retry_after", None)
        return min(self.most_pause, asked if asked is not None else _FIRST_PAUSE * 2 ** (attempt - 1))


def hopeless(error: TrainingError | InkwellError) -> bool:
    """Whether no later attempt can mend this: bad options, refused credentials, a model that cannot be read."""
    return isinstance(error, AuthFailed) or not isinstance(error, BotError)


def keep_posting(
    post: Callable[[], None],
    schedule: Schedule,
    log: RunLog,
    platform: str,
    *,
    wait: Callable[[float], bool],
    clock: Callable[[], float] = time.time,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Call `post` at every start until `wait` says to stop. `wait(seconds)` is True when the process is to end.

    Every run is written into the log with its attempts and how it ended. Raises what is hopeless.
    """
    while True:
        start = next_start(clock(), schedule.every)
        say(f"next post at {time.strftime('%Y-%m-%d %H:%M', time.gmtime(start))} UTC")
        if wait(max(0.0, start - clock())):
            return
        if _run(post, schedule, log, platform, wait, clock, say):
            return


def _run(
    post: Callable[[], None],
    schedule: Schedule,
    log: RunLog,
    platform: str,
    wait: Callable[[float], bool],
    clock: Callable[[], float],
    say: Callable[[str], None],
) -> bool:
    """One run with its retries; whether the process is to end."""
    started = clock()
    for attempt in range(1, schedule.retries + 2):
        try:
            post()
        except (TrainingError, InkwellError) as error:
            code = getattr(error, "exit_code", 3)
            last = attempt > schedule.retries or hopeless(error)
            say(f"attempt {attempt} of {schedule.retries + 1} failed ({code}): {error}")
            if last:
                log.add(Run(platform, started, attempt, code, str(error)))
            if hopeless(error):
                raise
            if not last and wait(schedule.pause(attempt, error)):
                log.add(Run(platform, started, attempt, code, f"{error}; stopped before a retry"))
                return True
        else:
            log.add(Run(platform, started, attempt, 0, ""))
            return False
    return False


@contextmanager
def stopping() -> Iterator[Callable[[float], bool]]:
    """`wait(seconds)` for as long as this is open: it returns True at once after SIGTERM or SIGINT. A run that is
    on its way is finished first."""
    stop = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop.wait
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
