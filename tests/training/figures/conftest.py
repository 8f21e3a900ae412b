"""A tiny window model beside the bundles that all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from inkwell.bundle import Bundle, BundleConfig
from inkwell.models import build_model, model_settings
from inkwell.tokenizer import CharTokenizer
from inkwell.words import SeedWords

LETTERS = "The harbour lay quiet under the lantern. Old sailors came and asked for bread, 7 ropes and Kings."


@pytest.fixture(scope="session")
def window_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Self-attention over a window of 6, steered by a category; untrained and widened."""
    path = tmp_path_factory.mktemp("bundles") / "window"
    tokenizer = CharTokenizer.fit([LETTERS])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = build_model(
            {
                "architecture": "window",
                "vocabulary": tokenizer.size,
                "window": 6,
                "embedding": 8,
                "attention": 1,
                "heads": 2,
                "layers": 2,
                "hidden": 12,
                "categories": 3,
                "steering": "both",
                "adaptive": True,
            }
        )
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
    config = BundleConfig(
        name="window",
        family="names",
        model=model_settings(model),
        seed_words=False,
        limits={"max_new_tokens": 40},
    )
    Bundle(config, model, tokenizer, SeedWords((), ()), ("elf", "ork")).save(path)
    return path
