"""Inkwell's library: everything a model needs to turn a prompt into text, and nothing else.

It travels inside every archive and imports only torch, numpy, tokenizers, safetensors and the standard
library. Importing the package itself imports none of them, so light parts stay light.
"""

__version__ = "0.1.0"
