"""The order of things in one run: settle what a dead run left, draw, choose, reserve, send, record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from training.bot.candidates import Candidate, Source
from training.bot.choosing import Rules, objection, tidy
from training.bot.errors import BotError, NothingSuitable, Refused
from training.bot.history import History, Row
from training.bot.platforms.base import Platform, Posted
from training.bot.similar import normalised
from training.errors import UserError


@dataclass(frozen=True)
class Plan:
    """How one run goes: `count` candidates in each of at most `rounds` draws; texts at least `similarity`
    like an earlier post count as posted before."""

    rules: Rules
    count: int = 8
    rounds: int = 3
    similarity: float = 0.8

    def __post_init__(self) -> None:
        for name, value in (("--candidates", self.count), ("--rounds", self.rounds)):
            if value < 1:
                raise UserError(f"{name} {value} must be 1 or more")
        if not 0 < self.similarity <= 1:
            raise UserError(f"--similarity {self.similarity} must be more than 0 and at most 1")


@dataclass(frozen=True)
class Outcome:
    """What a run did. `row` is None for a dry run, `candidate` for a post that an earlier run had begun."""

    text: str
    candidate: Candidate | None
    row: Row | None
    posted: Posted | None


def run(
    platform: Platform,
    source: Source,
    history: History,
    plan: Plan,
    *,
    dry_run: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Post one text, exactly once. `say` is told what happens on the way.

    Raises NothingSuitable, RateLimited, AuthFailed, PlatformDown, NoText.
    """
    if dry_run:
        candidate, text = next(_suitable(platform, source, history, plan, say))
        return Outcome(text, candidate, None, None)
    with history.alone():
        finished = _settle(platform, history, say)
        if finished is not None:
            return finished
        found = _suitable(platform, source, history, plan, say)
        while True:
            candidate, text = next(found)
            row = history.reserve(
                platform.name,
                platform.account,
                platform.new_key(),
                text,
                model=candidate.model,
                seed=candidate.seed,
            )
            try:
                row, posted = _send(platform, history, row, again=False)
            except Refused as error:
                say(str(error))
            else:
                return Outcome(text, candidate, row, posted)


def _suitable(
    platform: Platform, source: Source, history: History, plan: Plan, say: Callable[[str], None]
) -> Iterator[tuple[Candidate, str]]:
    """Candidates that may be posted, with the text to post. Raises NothingSuitable when there are no more."""
    reasons: Counter[str] = Counter()
    seen: set[str] = set()
    for round_ in range(plan.rounds):
        for candidate in source.draw(plan.count, round_):
            text = tidy(candidate, whole=plan.rules.whole)
            reason = objection(candidate, text, plan.rules) or _repeated(platform, history, plan, text, seen)
            if reason is None:
                yield candidate, text
                reason = "refused by the platform"
            seen.add(normalised(text))
            reasons[reason] += 1
        say(f"draw {round_ + 1} of {plan.rounds}: nothing suitable")
    counted = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    raise NothingSuitable(f"none of {reasons.total()} candidates may be posted: {counted}")


def _repeated(platform: Platform, history: History, plan: Plan, text: str, seen: set[str]) -> str | None:
    if normalised(text) in seen:
        return "drawn twice"
    if history.refused(platform.name, platform.account, text):
        return "refused before"
    found = history.resembling(platform.name, platform.account, text, plan.similarity)
    if found is None:
        return None
    return "posted before" if found[1] == 1.0 else "much like an earlier post"


def _settle(platform: Platform, history: History, say: Callable[[str], None]) -> Outcome | None:
    """Finish what an earlier run began; what cannot be finished safely counts as posted from now on."""
    outcome = None
    for row in history.reserved(platform.name, platform.account):
        if outcome is not None or not 0 <= history.age(row) < platform.resend_s:
            history.settle(row, "unknown", reason="a run ended while it was being sent")
            say("a post of an earlier run may or may not be out; it will not be sent again")
            continue
        say("finishing a post that an earlier run began")
        try:
            row, posted = _send(platform, history, row, again=True)
        except Refused as error:
            say(str(error))
            continue
        outcome = Outcome(row.text, None, row, posted)
    return outcome


def _send(platform: Platform, history: History, row: Row, *, again: bool) -> tuple[Row, Posted]:
    """Send a reserved text and write down how it ended."""
    try:
        posted = platform.send(row.text, row.key, again=again)
    except Refused as error:
        history.settle(row, "refused", reason=str(error))
        raise
    except BotError as error:
        if again or error.uncertain:
            # It stays reserved where the platform can recognise it: the next run finds out.
            if platform.resend_s == 0:
                history.settle(row, "unknown", reason=str(error))
        else:
            history.settle(row, "failed", reason=str(error))
        raise
    return history.settle(row, "posted", remote_id=posted.remote_id, url=posted.url), posted
