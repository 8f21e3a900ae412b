"""From a job's fields to its story's rules: what they ask for is checked against the model's tokens."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property

from inkwell.constraints.pieces import WordPieces
from inkwell.constraints.story import Frame, StoryConstraint
from inkwell.constraints.vocabulary import Capitals
from inkwell.constraints.wording import Wording, WordRules
from inkwell.errors import InvalidJob
from inkwell.job import Job
from inkwell.lexicon import names_in, ordinary_words
from inkwell.tokenizer import Tokenizer

_CACHED = 32
_SHAPES = (
    "regex",
    "starts_with",
    "ends_with",
    "contains",
    "allowed_chars",
    "min_chars",
    "max_chars",
    "syllables",
)
_FIELDS = ("characters", "ending", "required_words", "opening", "forbid_loops", "forbidden_words")


class StoryCompiler:
    """Makes the constraints of stories for one tokenizer. `documents` gives the texts that the model has learned
    from, or None: from them it is known which words name somebody."""

    def __init__(self, tokenizer: Tokenizer, documents: Callable[[], Sequence[str] | None]) -> None:
        self._tokenizer, self._documents = tokenizer, documents
        self._capitals: OrderedDict[tuple[str, ...], Capitals] = OrderedDict()

    def constraint(self, job: Job, prompt: str, stops_at_end: bool) -> StoryConstraint:
        """The constraint of a job that tells a story. Raises InvalidJob, naming the field."""
        asked = next(name for name in _FIELDS if getattr(job, name))
        self._check_company(job, asked)
        opening = self._ids("opening", job.opening or "")
        ending = self._ids("ending", job.ending or "", " ")
        required = tuple(dict.fromkeys(word.lower() for word in job.required_words))
        forbidden = frozenset(word.lower() for word in job.forbidden_words)
        for field, words in (("characters", job.characters), ("required_words", required)):
            for word in words:
                if word.lower() in forbidden:
                    raise InvalidJob("forbidden_words", f"holds {word!r}, which is among {field}")
                self._check_spelling(field, word)
        self._check_spelling(asked, " ." if ending else " ")
        rules = WordRules(job.characters, required, forbidden, job.forbid_loops)
        wording = Wording(self._pieces, self._capitals_for(job, prompt), rules)
        wording.read(prompt)
        wording.begin()
        wording.read(job.opening or "")
        # a single character can say that the ending has begun only where sentences begin with longer tokens
        swaps = bool(ending) and stops_at_end and self._pieces.whole_words
        story = StoryConstraint(wording, Frame(opening, ending, job.max_new_tokens, swaps))
        if story.least() > job.max_new_tokens:
            raise InvalidJob(
                "max_new_tokens",
                f"is {job.max_new_tokens}; with this {asked} a story takes at least {story.least()} tokens",
            )
        return story

    @cached_property
    def _pieces(self) -> WordPieces:
        return WordPieces(self._tokenizer)

    @cached_property
    def _ordinary(self) -> frozenset[str]:
        documents = self._documents()
        if documents is None:
            raise InvalidJob(
                "characters",
                "is not possible: this model's bundle does not hold the texts it has learned from",
            )
        return ordinary_words(documents)

    def _capitals_for(self, job: Job, prompt: str) -> Capitals:
        names: tuple[str, ...] = ()
        if job.characters:
            given = " ".join(filter(None, (prompt, job.opening, job.ending)))
            names = tuple(dict.fromkeys((*job.characters, *names_in(given, self._ordinary))))
        found = self._capitals.get(names)
        if found is None:
            spelled = (
                (word for word in self._ordinary if self._writes(word[0].upper() + word[1:])) if names else ()
            )
            found = Capitals(self._pieces, names, spelled)
        self._capitals[names] = found
        self._capitals.move_to_end(names)
        if len(self._capitals) > _CACHED:
            self._capitals.popitem(last=False)
        return found

    def _check_company(self, job: Job, asked: str) -> None:
        for name in _SHAPES:
            if getattr(job, name) is not None:
                raise InvalidJob(name, f"cannot be combined with {asked}; got {getattr(job, name)!r}")
        for name in ("ending", "characters", "required_words"):
            if getattr(job, name) and job.stop:
                raise InvalidJob("stop", f"cannot be combined with {name}, which a stop string could cut off")
        if job.ending and job.min_new_tokens:
            raise InvalidJob(
                "min_new_tokens", f"must be absent or 0 with an ending; got {job.min_new_tokens}"
            )

    def _ids(self, field: str, text: str, before: str = "") -> tuple[int, ...]:
        """Tokens of a text, behind the single character `before`."""
        if not text:
            return ()
        ids = self._tokenizer.encode(text)
        if self._tokenizer.decode(ids) != text:
            lacking = self._tokenizer.unknown(text) or text
            raise InvalidJob(field, f"holds {lacking[:20]!r}, which this model cannot write as it stands")
        if before:
            self._check_spelling(field, before)
            ids = [self._pieces.characters[before], *ids]
        return tuple(ids)

    def _check_spelling(self, field: str, text: str) -> None:
        for character in text:
            if character not in self._pieces.characters:
                raise InvalidJob(field, f"needs {character!r}, for which this model has no token")

    def _writes(self, word: str) -> bool:
        return all(character in self._pieces.characters for character in word)
