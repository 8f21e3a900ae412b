"""The shape of a text as exact masks: no token is allowed after which the shape cannot be completed.

charset.py     sets of characters, and the classes that a collection of sets tells apart
charclasses.py what one item of a regular expression matches
dfa.py         automata over classes: product, trimming, distances
regex.py       regular expressions → automata, with limits
rules.py       prefix, suffix, infix, alphabet, length and syllables → automata
stops.py       stop strings and shapes together
utf8.py        bytes → classes, for tokens that hold parts of characters
automaton.py   an automaton over a tokenizer's tokens, with distances to a finished text
constraint.py  one job's constraint, as the engine asks for it
compiling.py   a job's fields → its constraint, with a cache
pieces.py      a tokenizer's tokens as pieces of words
vocabulary.py  the words that a story may write with a capital
wording.py     a story as words: which may follow, and by which tokens
story.py       a story's rules, as the engine asks for them
telling.py     a job's fields → its story's rules
"""

from inkwell.constraints.compiling import Shape, compile_constraint
from inkwell.constraints.constraint import ShapeConstraint
from inkwell.constraints.story import StoryConstraint
from inkwell.constraints.telling import StoryCompiler

__all__ = ["Shape", "ShapeConstraint", "StoryCompiler", "StoryConstraint", "compile_constraint"]
