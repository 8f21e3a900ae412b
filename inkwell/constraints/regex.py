"""Regular expressions in Python's syntax → automata, with limits on size and work.

The pattern is parsed by the standard library, so it means what `re.fullmatch` would have it mean. What an
automaton cannot do (looking around, back-references, atomic groups) is refused by name. The rest goes through
Glushkov's construction (one state per character of the pattern) and subset construction, sets as integers.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from inkwell.constraints.charclasses import CHARACTER_FLAGS, characters_of
from inkwell.constraints.charset import Alphabet, CharSet
from inkwell.constraints.dfa import DEAD, MAX_STATES, ComplexityError, Dfa

if sys.version_info >= (3, 11):
    from re import _parser as parser  # type: ignore[attr-defined]
else:
    import sre_parse as parser

MAX_POSITIONS = 4000
MAX_WORK = 1_500_000
_REFUSED = {
    "ASSERT": "looking ahead or behind",
    "ASSERT_NOT": "looking ahead or behind",
    "GROUPREF": "a back-reference",
    "GROUPREF_EXISTS": "a conditional group",
    "ATOMIC_GROUP": "an atomic group",
    "POSSESSIVE_REPEAT": "a possessive repeat",
}


class PatternError(ValueError):
    """The pattern is not a regular expression, or not one that an automaton can follow."""


@dataclass(frozen=True)
class _Part:
    """A piece of the pattern: whether it matches nothing, and its first and last positions as bit sets."""

    nullable: bool
    first: int
    last: int


_EMPTY = _Part(True, 0, 0)


class Pattern:
    """A parsed pattern: its positions, each reading a set of characters, and which may follow which.

    `sets` are the distinct character sets; an `Alphabet` that includes them gives its automaton.
    """

    def __init__(self, pattern: str) -> None:
        tree = _parse(pattern)
        self.sets: list[CharSet] = []
        self._numbers: dict[bytes, int] = {}
        self._reads: list[int] = []  # position → number of its set
        self._follow: list[int] = []
        self._begins = self._ends = 0  # positions that stand for `^` and `$`
        self._work = 0
        try:
            self._whole = self._sequence(tree, tree.state.flags)
        except RecursionError:
            raise PatternError("is nested too deeply") from None

    def compile(self, alphabet: Alphabet) -> Dfa:
        """The automaton of texts that match as a whole. Raises ComplexityError."""
        readers = [0] * len(self.sets)
        for position, number in enumerate(self._reads):
            if number >= 0:
                readers[number] |= 1 << position
        masks = [0] * alphabet.size
        for chars, mask in zip(self.sets, readers, strict=True):
            for index in np.flatnonzero(alphabet.members(chars)).tolist():
                masks[index] |= mask
        return self._determinise(masks)

    def _determinise(self, masks: list[int]) -> Dfa:
        whole = self._whole
        # a state is what may come next and whether the text may end; `^` may be read only at the start
        begun, next_ = self._pass(whole.first, self._begins)
        first = (begun, next_, self._may_end(begun & whole.last != 0 or whole.nullable, next_))
        numbers: dict[tuple[int, bool], int] = {}
        follows: list[int] = [0]
        accept = [False]

        def number(follow: int, ends: bool) -> int:
            if not follow and not ends:
                return DEAD
            key = (follow, ends)
            if key not in numbers:
                numbers[key] = len(accept)
                follows.append(follow)
                accept.append(ends)
                if len(accept) > MAX_STATES:
                    raise ComplexityError(f"more than {MAX_STATES} states")
            return numbers[key]

        # the start keeps number 1 even when nothing can match
        numbers[(first[1], first[2])] = 1
        follows.append(first[1])
        accept.append(first[2])
        table: list[list[int]] = [[DEAD] * len(masks)]
        state = 1
        known: dict[int, tuple[int, bool]] = {0: (0, False)}
        while state < len(follows):
            row = []
            self._spend(len(masks))
            for mask in masks:
                read = follows[state] & mask
                if read not in known:
                    after = self._after(read)
                    known[read] = (after, self._may_end(read & whole.last != 0, after))
                row.append(number(*known[read]))
            table.append(row)
            state += 1
        return Dfa(np.array(table, dtype=np.int32), np.array(accept, dtype=bool))

    def _after(self, positions: int) -> int:
        """What may follow any of `positions`."""
        result = 0
        self._spend(positions.bit_count())
        for position in _bits(positions):
            result |= self._follow[position]
        return result

    def _pass(self, next_: int, marks: int) -> tuple[int, int]:
        """Read as many of the empty `marks` as can be: those read, and all that may come next."""
        read = 0
        while fresh := next_ & marks & ~read:
            read |= fresh
            next_ |= self._after(fresh)
        return read, next_

    def _may_end(self, ends: bool, next_: int) -> bool:
        return ends or bool(self._pass(next_, self._ends)[0] & self._whole.last)

    def _spend(self, work: int) -> None:
        self._work += work
        if self._work > MAX_WORK:
            raise ComplexityError(f"more than {MAX_WORK} steps to compile")

    # From the parser's tree to positions.

    def _sequence(self, items: Any, flags: int) -> _Part:
        result = _EMPTY
        for operation, argument in items:
            result = self._concatenate(result, self._item(str(operation), argument, flags))
        return result

    def _item(self, operation: str, argument: Any, flags: int) -> _Part:
        if operation in ("LITERAL", "NOT_LITERAL", "IN", "ANY"):
            items = tuple(argument) if operation == "IN" else argument
            return self._position(characters_of(operation, items, flags & CHARACTER_FLAGS))
        if operation == "BRANCH":
            return self._alternatives([self._sequence(branch, flags) for branch in argument[1]])
        if operation == "SUBPATTERN":
            _, added, removed, inner = argument
            return self._sequence(inner, (flags | added) & ~removed)
        if operation in ("MAX_REPEAT", "MIN_REPEAT"):
            low, high, inner = argument
            return self._repeat(lambda: self._sequence(inner, flags), int(low), high)
        if operation == "AT":
            return self._anchor(str(argument), flags)
        raise PatternError(f"uses {_REFUSED.get(operation, operation.lower())}, which cannot be enforced")

    def _position(self, chars: CharSet | None) -> _Part:
        if len(self._reads) >= MAX_POSITIONS:
            raise ComplexityError(f"more than {MAX_POSITIONS} characters and classes, repeats written out")
        number = -1
        if chars is not None:
            key = chars.borders.tobytes()
            number = self._numbers.setdefault(key, len(self.sets))
            if number == len(self.sets):
                self.sets.append(chars)
        bit = 1 << len(self._reads)
        self._reads.append(number)
        self._follow.append(0)
        return _Part(False, bit, bit)

    def _anchor(self, where: str, flags: int) -> _Part:
        if where not in ("AT_BEGINNING", "AT_BEGINNING_STRING", "AT_END", "AT_END_STRING"):
            raise PatternError("uses a word boundary, which cannot be enforced")
        if flags & re.MULTILINE and not where.endswith("STRING"):
            raise PatternError("uses ^ or $ with the flag m, which cannot be enforced")
        part = self._position(None)
        if "BEGINNING" in where:
            self._begins |= part.first
        else:
            self._ends |= part.first
        return part

    def _link(self, last: int, first: int) -> None:
        if first:
            self._spend(last.bit_count())
            for position in _bits(last):
                self._follow[position] |= first

    def _concatenate(self, left: _Part, right: _Part) -> _Part:
        self._link(left.last, right.first)
        return _Part(
            left.nullable and right.nullable,
            left.first | (right.first if left.nullable else 0),
            right.last | (left.last if right.nullable else 0),
        )

    @staticmethod
    def _alternatives(parts: list[_Part]) -> _Part:
        first = last = 0
        for part in parts:
            first |= part.first
            last |= part.last
        return _Part(any(part.nullable for part in parts), first, last)

    def _repeat(self, make: Callable[[], _Part], low: int, high: Any) -> _Part:
        result = _EMPTY
        for _ in range(low):
            result = self._concatenate(result, make())
        if high is parser.MAXREPEAT:
            loop = make()
            self._link(loop.last, loop.first)
            return self._concatenate(result, _Part(True, loop.first, loop.last))
        # x{0,3} as (x(x(x)?)?)?: each copy links only to the next, not to all that follow
        rest: _Part = _EMPTY
        for _ in range(int(high) - low):
            rest = self._concatenate(make(), rest)
            rest = _Part(True, rest.first, rest.last)
        return self._concatenate(result, rest)


def _bits(value: int) -> Iterator[int]:
    while value:
        low = value & -value
        yield low.bit_length() - 1
        value ^= low


def _parse(pattern: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what Python warns of has no settled meaning
            return parser.parse(pattern, 0)
    except re.error as error:
        place = "" if error.pos is None else f" at character {error.pos}"
        raise PatternError(f"is not a regular expression: {error.msg}{place}") from None
    except (Warning, OverflowError, ValueError) as error:
        raise PatternError(f"is not a clear regular expression: {error}") from None
    except RecursionError:
        raise PatternError("is nested too deeply") from None
