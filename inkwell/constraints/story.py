"""A story's rules as exact masks: its characters, its first and last words, what it must and must not say.

At every token the constraint knows a way to finish the story as asked, in single characters if need be, and
bars what would put that out of reach. So a story keeps its rules whatever the model would rather say, and ends
in time.

How the model is led: where it begins the name of somebody else, a character's name is begun instead. Where it
would end the story, behind the end of a sentence, the ending is written instead; and where few tokens are left,
behind the first sentence that ends.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from inkwell.constraints.wording import Wording
from inkwell.tokenizer import END_ID

_SLACK = 48  # tokens before the last possible place from which on the next sentence end is taken


class Frame(NamedTuple):
    """First and last tokens of a story, and the most that it may have.

    `swaps`: the end mark stands for the ending, whose first token nothing else begins behind a sentence.
    """

    opening: tuple[int, ...]
    ending: tuple[int, ...]
    most: int
    swaps: bool


class StoryConstraint:
    """One story's constraint. `wording` has read what stands before it, and the opening: nothing is decided while
    that is written."""

    def __init__(self, wording: Wording, frame: Frame) -> None:
        self._wording, self._frame = wording, frame
        self._count = 0
        self._script, self._concluded, self._ended = frame.opening, False, False

    def least(self) -> int:
        """Tokens that the shortest way to a finished story takes; the rules can be kept when it is not above
        the most."""
        return len(self._script) + self._way()[0]

    def allowed(self) -> Tensor:
        """Boolean (V,): tokens that may come next; the end mark alone when the story is complete."""
        if self._script:
            return self._only(self._script[0])
        if self._concluded or self._ended:
            return self._only(END_ID)
        if self._concludes():
            return self._only(self._frame.ending[0])
        wording, ending = self._wording, self._frame.ending
        mask = np.zeros(wording.pieces.size, dtype=bool)
        # what the surest way may cost after any whole word, and then a word that is begun and not complete
        after = self._left - 1 - (len(ending) + 1 if ending else 0)
        spare = after - _spelled(wording.wanted())
        near = spare < wording.capitals.longest + 2
        if not near or spare >= 1:
            wording.fill(mask, spare if near else None)
        elif wording.complete and after >= _spelled(wording.missing()):
            mask[wording.pieces.gaps] = True  # where a word is complete that must not get another letter
        if self._frame.swaps and wording.ends_sentence:
            mask[ending[0]] = False
        urged = None if near else self._urged()
        if urged is not None and mask[urged]:
            return self._only(urged)
        next_token = self._way()[1]
        if next_token is not None and (near or not mask.any()):
            mask[next_token] = True
        mask[END_ID] = self._may_end()
        return torch.from_numpy(mask)

    def advance(self, token: int) -> None:
        """Tell which token came."""
        wording, frame = self._wording, self._frame
        if self._script:
            self._script = self._script[1:]
        elif token == END_ID:
            self._ended = True
        elif frame.ending[:1] == (token,) and wording.ends_sentence and (frame.swaps or self._concludes()):
            self._concluded, self._script = True, frame.ending[1:]
        else:
            wording.read(wording.pieces.texts.get(token, ""))
        self._count += 1
        wording.late = 2 * self._count >= frame.most

    def finished(self) -> bool:
        """Whether the story has been brought to its ending, which nothing may follow."""
        return self._concluded and not self._script

    def instead(self, token: int) -> int:
        """The ending for the end mark, and a character for another name."""
        if self._script or self._concluded:
            return token
        if token == END_ID:
            return self._frame.ending[0] if self._frame.swaps else token
        found = self._wording.instead(token)
        # not what would be taken for the ending
        lost = self._frame.ending[:1] == (found,) and self._wording.ends_sentence
        return self._way()[1] or END_ID if lost else found

    def fork(self) -> StoryConstraint:
        """Another one in the same place."""
        other = copy.copy(self)
        other._wording = self._wording.fork()
        return other

    @property
    def _left(self) -> int:
        return self._frame.most - self._count

    def _only(self, token: int) -> Tensor:
        mask = torch.zeros(self._wording.pieces.size, dtype=torch.bool)
        mask[token] = True
        return mask

    def _may_end(self) -> bool:
        if not self._wording.complete or self._wording.missing():
            return False
        return not self._frame.ending or (self._frame.swaps and self._wording.ends_sentence)

    def _concludes(self) -> bool:
        """Whether this is the place for the ending because few tokens are left."""
        frame, wording = self._frame, self._wording
        if not frame.ending or not wording.ends_sentence or wording.missing():
            return False
        slack = max(min(_SLACK, frame.most // 3), wording.capitals.longest + 4)
        return self._left <= len(frame.ending) + slack

    def _urged(self) -> int | None:
        """The token that leads to what is missing, at a place where it can be said well, when few are left: a
        character begins a sentence, another word follows "The" at the beginning of one."""
        wording = self._wording
        part, missing, first = wording.part, wording.missing(), wording.pieces.first
        if not missing or self._left > _spelled(missing) + len(self._frame.ending) + self._frame.most // 2:
            return None
        word = missing[0]
        if part and word != part and word.startswith(part):
            return first(word[len(part) :])
        if wording.ends_sentence:
            return first(f" {word}" if word in wording.rules.characters else " The")
        if part == "The" and wording.begins and word in wording.rules.required:
            return first(f" {word}")
        return None

    def _way(self) -> tuple[int, int | None]:
        """The fewest tokens that surely finish the story from here, the script not counted, and the first of
        them. None: nothing need follow."""
        wording, ending = self._wording, self._frame.ending
        part, missing, character = wording.part, wording.missing(), wording.pieces.characters
        rest = _spelled(missing)
        tail = len(ending) + (0 if wording.ends_sentence and not missing else 1) if ending else 0
        if not wording.complete:
            more, letter = wording.shortest()
            ways = [(more + rest + tail, character[letter])]
        elif missing:
            ways = [(rest + tail, character[" "]) if part else (rest - 1 + tail, character[missing[0][0]])]
        elif ending:
            ways = [(tail, ending[0] if wording.ends_sentence else character["."])]
        else:
            return 0, None
        for word in missing:
            if part and word.startswith(part) and len(word) > len(part):
                ways.append((rest + tail - 1 - len(part), character[word[len(part)]]))
        return min(ways, key=lambda way: way[0])


def _spelled(words: Sequence[str]) -> int:
    """Tokens of words that are written character by character, each behind a space."""
    return sum(1 + len(word) for word in words)
