"""How large should a vocabulary be? Bits per byte are the only figure that can be compared across them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from inkwell.tokenizer import BPETokenizer
from training.errors import UserError
from training.experiments.runs import Row, bytes_per_token, train
from training.prepare import prepare
from training.recipe import Recipe, TokenizerRecipe

CHARACTERS = 0
"""The size that stands for single characters."""
LEAST = 257  # every byte and the end mark


def bpe_sizes(
    recipe: Recipe, sizes: Sequence[int] = (CHARACTERS, 300, 600, 1200, 2400), device: str = "auto"
) -> list[Row]:
    """One row per vocabulary. Windows are cut so that each holds as many bytes as the recipe's do, so every run
    reads the same amount of text."""
    for size in sizes:
        if size != CHARACTERS and size < LEAST:
            raise UserError(f"size is {size}; it must be {CHARACTERS} (characters) or {LEAST} and more")
    usual = bytes_per_token(prepare(recipe)) * recipe.fit.length
    rows = []
    for size in sizes:
        tokenizer = TokenizerRecipe("chars") if size == CHARACTERS else TokenizerRecipe("bpe", size)
        changed = replace(recipe, tokenizer=tokenizer)
        prepared = prepare(changed)
        each = bytes_per_token(prepared)
        length = max(2, round(usual / each))
        trained = train(replace(changed, fit=replace(recipe.fit, length=length)), prepared, device)
        kind = "pieces" if isinstance(prepared.tokenizer, BPETokenizer) else "characters"
        rows.append(
            {
                "vocabulary": prepared.tokenizer.size,
                "of": kind,
                "bytes_per_token": each,
                "window": length,
                **trained.row(),
            }
        )
    return rows
