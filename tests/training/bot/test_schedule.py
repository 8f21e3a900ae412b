from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from training.bot.errors import AuthFailed, NoText, PlatformDown, RateLimited
from training.bot.runs import KEPT, Run, RunLog
from training.bot.schedule import Schedule, interval, keep_posting, next_start, stopping
from training.errors import UserError

NOON = 1_700_000_000 - 1_700_000_000 % 86_400 + 43_200


class Day:
    """A clock that only waiting moves; it stops the loop at `end`."""

    def __init__(self, start: float, hours: float) -> None:
        self.now, self.end = start, start + hours * 3600
        self.waits: list[float] = []

    def clock(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now += seconds
        return self.now > self.end


@pytest.fixture
def log(tmp_path: Path):
    with RunLog(tmp_path / "posts.sqlite") as opened:
        yield opened


def test_every_four_hours_is_six_posts_a_day_at_the_hours_that_cron_would_take(log):
    day, posts = Day(NOON + 600, 24), []
    keep_posting(lambda: posts.append(day.now), Schedule(4 * 3600), log, "x", wait=day.wait, clock=day.clock)
    assert [(at - NOON) / 3600 for at in posts] == [4, 8, 12, 16, 20, 24]
    assert [run.code for run in log.latest(10)] == [0] * 6


@pytest.mark.parametrize(
    ("every", "hours"),
    [("4h", [4, 8, 12, 16]), ("30m", [0.5, 1, 1.5, 2]), ("1d", [12, 36, 60]), ("5h", [3, 8, 12, 17])],
)
def test_starts_are_multiples_since_midnight(every, hours):
    now, found = NOON, []
    for _ in hours:
        now = next_start(now, interval(every))
        found.append((now - NOON) / 3600)
    assert found == hours


def test_a_run_that_fails_is_tried_three_times_more_with_longer_pauses(log):
    day, attempts = Day(NOON, 5), []

    def post() -> None:
        attempts.append(day.now)
        raise PlatformDown("gone")

    keep_posting(post, Schedule(4 * 3600), log, "x", wait=day.wait, clock=day.clock)
    assert [at - attempts[0] for at in attempts] == [0, 30, 90, 210]
    (run,) = log.latest(10)
    assert (run.attempts, run.code, run.message) == (4, 13, "gone")


def test_a_later_attempt_may_succeed_and_the_platform_may_say_when(log):
    day, errors = Day(NOON, 5), [RateLimited("slowly", 120.0), NoText("none")]

    def post() -> None:
        if errors:
            raise errors.pop(0)

    keep_posting(post, Schedule(4 * 3600), log, "x", wait=day.wait, clock=day.clock)
    assert day.waits[1:3] == [120.0, 60.0]
    assert [(run.attempts, run.code) for run in log.latest(10)] == [(3, 0)]


@pytest.mark.parametrize("error", [AuthFailed("revoked"), UserError("bad option")])
def test_what_no_attempt_can_mend_ends_the_loop_and_is_written_down(log, error):
    day = Day(NOON, 50)

    def post() -> None:
        raise error

    with pytest.raises(type(error)):
        keep_posting(post, Schedule(4 * 3600), log, "x", wait=day.wait, clock=day.clock)
    assert [(run.attempts, run.code) for run in log.latest(10)] == [(1, error.exit_code)]


def test_stopping_between_two_attempts_is_written_down(log):
    day = Day(NOON, 4)

    def post() -> None:
        raise NoText("none")

    keep_posting(post, Schedule(4 * 3600), log, "x", wait=day.wait, clock=day.clock)
    assert "stopped before a retry" in log.latest(1)[0].message


def test_the_log_keeps_the_last_hundred_runs_of_all_and_tells_platforms_apart(tmp_path):
    with RunLog(tmp_path / "new" / "h.sqlite") as log:
        for number in range(KEPT + 20):
            log.add(Run("x" if number % 2 else "mastodon", number, 1, 0, ""))
        assert len(log.latest(1000)) == KEPT
        assert log.latest(1)[0].started == KEPT + 19
        assert {run.platform for run in log.latest(1000, "x")} == {"x"}


@pytest.mark.parametrize("text", ["4", "h", "10s", "0h", "-1h", "4 hours", "0.001m"])
def test_a_bad_interval_is_named(text):
    with pytest.raises(UserError, match="must be a minute or more, such as 30m, 4h or 1d"):
        interval(text)
    with pytest.raises(UserError, match="--retries -1"):
        Schedule(60, -1)


def test_a_signal_ends_the_wait_and_the_old_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with stopping() as wait:
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        assert wait(30)
        timer.join()
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_program_stays_and_ends_at_once_when_told_to(tmp_path):
    words = ["post", "--model", "souls", "--url", "http://127.0.0.1:9", "--every", "4h"]
    process = subprocess.Popen(
        [sys.executable, "-m", "training", *words],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "INKWELL_POST_HISTORY": str(tmp_path / "h.sqlite")},
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("next post at "), line
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()
