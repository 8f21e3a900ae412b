"""From a job's fields to its constraint, with what was compiled kept for the next job of that shape."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, fields
from functools import reduce
from weakref import WeakKeyDictionary

from inkwell.constraints.automaton import Automaton, Pieces
from inkwell.constraints.charset import Alphabet, CharSet
from inkwell.constraints.constraint import ShapeConstraint
from inkwell.constraints.dfa import FAR, ComplexityError, product, trim
from inkwell.constraints.regex import Pattern, PatternError
from inkwell.constraints.rules import Contains, EndsWith, Length, Only, Rule, StartsWith, Syllables
from inkwell.constraints.stops import overlapping, with_stops
from inkwell.errors import InvalidJob
from inkwell.job import Job
from inkwell.tokenizer import Tokenizer

_CACHED_SHAPES = 64
_CACHED_BYTES = 128 << 20


@dataclass(frozen=True)
class Shape:
    """What a generated text has to look like. Every rule that is not None must hold for the whole text.

    `stop` are strings of which the first ends the text; the rules hold for what stands before it.
    """

    min_chars: int | None = None
    max_chars: int | None = None
    regex: str | None = None
    starts_with: str | None = None
    ends_with: str | None = None
    contains: str | None = None
    allowed_chars: str | None = None
    syllables: int | None = None
    stop: tuple[str, ...] = ()

    @classmethod
    def of(cls, job: Job) -> Shape:
        """The shape that a job asks for."""
        known = {field.name for field in fields(job)}
        return cls(**{field.name: getattr(job, field.name) for field in fields(cls) if field.name in known})

    def rules(self) -> dict[str, Rule]:
        """Field name → rule. Raises InvalidJob when the regular expression is not one."""
        rules: dict[str, Rule] = {}
        if self.allowed_chars is not None:
            rules["allowed_chars"] = Only(self.allowed_chars)
        if self.starts_with is not None:
            rules["starts_with"] = StartsWith(self.starts_with)
        if self.ends_with is not None:
            rules["ends_with"] = EndsWith(self.ends_with)
        if self.contains is not None:
            rules["contains"] = Contains(self.contains)
        if self.syllables is not None:
            rules["syllables"] = Syllables(self.syllables)
        if self.regex is not None:
            try:
                rules["regex"] = Pattern(self.regex)
            except PatternError as error:
                raise InvalidJob("regex", str(error)) from None
            except ComplexityError as error:
                raise InvalidJob("regex", f"is too complex: {error}") from None
        if self.min_chars or self.max_chars is not None or not rules:
            name = "max_chars" if self.max_chars is not None else "min_chars"
            rules[name] = Length(self.min_chars or 0, self.max_chars)
        return rules


class Compiler:
    """Compiles shapes for one tokenizer and keeps the most recently used."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.pieces = Pieces(tokenizer)
        self._known: OrderedDict[tuple[Shape, bool], Automaton | InvalidJob] = OrderedDict()
        self._lock = threading.Lock()

    def automaton(self, shape: Shape, stops_at_end: bool) -> Automaton:
        """The automaton of a shape. Raises InvalidJob when no text of this vocabulary has it."""
        key = (shape, stops_at_end)
        with self._lock:
            found = self._known.get(key)
        if found is None:
            try:
                found = self._compile(shape, stops_at_end)
            except InvalidJob as error:  # kept as well: finding out may have been expensive
                found = error
        with self._lock:
            self._known[key] = found
            self._known.move_to_end(key)
            while len(self._known) > _CACHED_SHAPES or (
                len(self._known) > 1 and self._held() > _CACHED_BYTES
            ):
                self._known.popitem(last=False)
        if isinstance(found, InvalidJob):
            raise InvalidJob(found.field, str(found).removeprefix(found.field + " "))
        return found

    def _held(self) -> int:
        return sum(found.nbytes for found in self._known.values() if isinstance(found, Automaton))

    def _compile(self, shape: Shape, stops_at_end: bool) -> Automaton:
        rules = shape.rules()
        try:
            found = self._build(list(rules.values()), shape.stop, stops_at_end)
        except ComplexityError as error:
            name = "regex" if "regex" in rules else next(iter(rules))
            raise InvalidJob(
                name, f"is too complex{' with the other rules' if len(rules) > 1 else ''}: {error}"
            ) from None
        if found is not None:
            return found
        for name, rule in rules.items():
            if self._build([rule], (), stops_at_end) is None:
                raise InvalidJob(
                    name, f"cannot be met by any text of this model's characters: {self._why(name, shape)}"
                )
        first, *others = rules
        if not others:
            raise InvalidJob("stop", f"and {first} cannot both be met")
        raise InvalidJob(first, f"cannot be met together with {', '.join(others)}")

    def _why(self, name: str, shape: Shape) -> str:
        value = getattr(shape, name)
        missing = "".join(c for c in dict.fromkeys(str(value)) if not self._writes(c))
        if name in ("starts_with", "ends_with", "contains") and missing:
            return f"it has no {missing!r}"
        return f"got {value!r}"

    def _writes(self, character: str) -> bool:
        return bool(self.pieces.broken) or bool((self.pieces.points == ord(character)).any())

    def _build(self, rules: list[Rule], stop: tuple[str, ...], stops_at_end: bool) -> Automaton | None:
        """The automaton of texts that keep all rules; None when there are none."""
        stop_sets = [CharSet.of(c) for c in sorted(set("".join(stop)))]
        alphabet = Alphabet([*(chars for rule in rules for chars in rule.sets), *stop_sets])
        dfa = trim(reduce(product, [rule.compile(alphabet) for rule in rules]))
        if dfa is not None and stop:
            dfa = trim(with_stops(dfa, stop, alphabet))
        if dfa is None:
            return None
        automaton = Automaton(dfa, alphabet, self.pieces, stops_at_end)
        return automaton if automaton.distance[automaton.start] < FAR else None


_compilers: WeakKeyDictionary[Tokenizer, Compiler] = WeakKeyDictionary()


def compile_constraint(job: Job, tokenizer: Tokenizer, stops_at_end: bool) -> ShapeConstraint:
    """The constraint of a job that asks for a shape.

    Raises InvalidJob, naming the field, when the shape is malformed, too complex to be enforced exactly, or
    cannot be had with this tokenizer within `max_new_tokens`.
    """
    compiler = _compilers.get(tokenizer)
    if compiler is None:
        compiler = _compilers.setdefault(tokenizer, Compiler(tokenizer))
    shape = _within_reach(Shape.of(job), job.max_new_tokens, compiler.pieces.longest)
    clash = overlapping(shape.stop)
    if clash is not None:
        raise InvalidJob(
            "stop", f"holds {clash[1]!r} inside {clash[0]!r}, which cannot be combined with a shape"
        )
    automaton = compiler.automaton(shape, stops_at_end)
    shortest = int(automaton.distance[automaton.start])
    if shortest > job.max_new_tokens:
        raise InvalidJob(
            "max_new_tokens",
            f"is {job.max_new_tokens}; the shortest text of this shape takes {shortest} tokens",
        )
    try:
        constraint = ShapeConstraint(automaton, job.max_new_tokens, job.min_new_tokens)
    except ComplexityError as error:
        raise InvalidJob(
            "min_new_tokens", f"is too complex to be enforced with this shape: {error}"
        ) from None
    if not constraint.satisfiable():
        least = f"at least {max(job.min_new_tokens, 1)} and at most {job.max_new_tokens} tokens"
        raise InvalidJob("min_new_tokens", f"is {job.min_new_tokens}; no text of {least} has this shape")
    _check_resumed(job, ShapeConstraint(automaton, job.max_new_tokens, job.min_new_tokens))
    return constraint


def _within_reach(shape: Shape, max_new_tokens: int, longest: int) -> Shape:
    """The same shape with bounds on length that a text of `max_new_tokens` cannot break left out."""
    reach = max_new_tokens * longest
    if shape.min_chars is not None and shape.min_chars > reach:
        raise InvalidJob(
            "min_chars",
            f"is {shape.min_chars}; {max_new_tokens} tokens of this model give at most {reach} characters",
        )
    if shape.max_chars is None or shape.max_chars < reach:
        return shape
    values = {field.name: getattr(shape, field.name) for field in fields(shape)}
    return Shape(**{**values, "max_chars": None})


def _check_resumed(job: Job, constraint: ShapeConstraint) -> None:
    for place, token in enumerate(job.resume_ids):
        try:
            constraint.advance(token)
        except ValueError:
            raise InvalidJob(
                "resume_ids", f"holds {token} at place {place}, which breaks the shape of the text"
            ) from None
