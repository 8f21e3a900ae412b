"""How long a client waits, on a clock of the test's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkwell.client.errors import Overloaded, TimedOut, Unreachable, ValidationError
from inkwell.client.retrying import Attempts, Retries


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_pauses_double_up_to_the_cap():
    clock = Clock()
    attempts = Attempts(Retries(deadline=1000, base=0.5, cap=3), clock, chance=lambda: 1.0)
    assert [attempts.pause(Unreachable("x")) for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_pauses_are_spread_by_chance():
    attempts = Attempts(Retries(deadline=1000, base=1, cap=100), Clock(), chance=lambda: 0.25)
    assert [attempts.pause(Unreachable("x")) for _ in range(3)] == [0.25, 0.5, 1.0]


@given(st.floats(0, 50), st.floats(0, 1))
def test_a_pause_is_never_shorter_than_the_server_asked_for(asked, chance):
    attempts = Attempts(Retries(deadline=100), Clock(), chance=lambda: chance)
    assert attempts.pause(Overloaded("full", retry_after=asked)) >= asked


def test_the_servers_advice_beyond_the_deadline_ends_the_waiting_at_once():
    attempts = Attempts(Retries(deadline=5), Clock(), chance=lambda: 0.0)
    with pytest.raises(Overloaded):
        attempts.pause(Overloaded("full", retry_after=6))


def test_a_final_error_is_raised_without_a_pause():
    with pytest.raises(ValidationError):
        Attempts(Retries(), Clock()).pause(ValidationError("no"))


def test_all_pauses_together_stay_within_the_deadline():
    clock = Clock()
    attempts = Attempts(Retries(deadline=10), clock, chance=lambda: 1.0)

    def wait_for_ever():
        while True:
            clock.now += attempts.pause(Unreachable("x"))

    with pytest.raises(Unreachable):
        wait_for_ever()
    assert clock.now < 1010


def test_no_time_is_left_after_the_deadline():
    clock = Clock()
    attempts = Attempts(Retries(deadline=10), clock)
    clock.now += 4
    assert attempts.left() == 6
    clock.now += 6
    with pytest.raises(TimedOut, match="10 s"):
        attempts.left()


@pytest.mark.parametrize("name", ["deadline", "base", "cap"])
def test_times_must_be_positive(name):
    with pytest.raises(ValueError, match=f"{name} must be more than 0"):
        Retries(**{name: 0})
