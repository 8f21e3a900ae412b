"""Tiny untrained bundles that every package's tests can serve. Written once per run; copy before damaging one.

Untrained weights are widened, so that next-token distributions have peaks worth sampling from.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TEXT = (
    "The harbour lay quiet under the lantern. Old sailors said the lantern had burned since the first winter, "
    "and nobody asked who lit it. When the lantern went out, the harbour went dark and the sailors went home.\n"
    "In the morning a grey ship stood in the harbour. Its captain asked for bread, for rope and for a lantern.\n"
)
CATEGORIES = ("dwarf", "elf", "ork")


def _write(path: Path, tokenizer: Any, model: dict[str, Any], widen: float = 3.0, **config: Any) -> Path:
    import torch

    from inkwell.bundle import Bundle, BundleConfig
    from inkwell.models import build_model, model_settings
    from inkwell.words import SeedWords

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        built = build_model({**model, "vocabulary": tokenizer.size})
        with torch.no_grad():
            for parameter in built.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1).mul_(1.0 if parameter.dim() < 2 else widen)
    categories = CATEGORIES if model.get("categories") else ()
    words = SeedWords.collect([TEXT]) if config.get("seed_words", True) else SeedWords((), ())
    settings = BundleConfig(name=path.name, model=model_settings(built), **config)
    Bundle(settings, built, tokenizer, words, categories, {"training": {}}, "# A card\n").save(path)
    return path


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Programs that tests start can be stopped by Ctrl-C, also where a shell began the tests in the background
    and so had the signal ignored, which is inherited."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def native_cache(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Where the C++ core is compiled to, once for all runs with the same sources, instead of the user's cache."""
    folder = request.config.cache.mkdir("native")
    folder.chmod(0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INKWELL_NATIVE_CACHE", str(folder))
        for name in ("INKWELL_NATIVE_LIBRARY", "INKWELL_NATIVE_PATH"):
            patch.delenv(name, raising=False)
        yield folder


@pytest.fixture(scope="session")
def char_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A char LSTM that continues a stream; has seed words."""
    from inkwell.tokenizer import CharTokenizer

    return _write(
        tmp_path_factory.mktemp("bundles") / "prose",
        CharTokenizer.fit([TEXT]),
        {"architecture": "recurrent", "cell": "lstm", "hidden": 24, "layers": 2, "embedding": 0},
        family="prose",
        kind="stream",
        start="\n",
        limits={"max_new_tokens": 400, "max_prompt_tokens": 300},
    )


@pytest.fixture(scope="session")
def bpe_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE GRU over documents; has seed words and defaults."""
    from inkwell.tokenizer import BPETokenizer

    return _write(
        tmp_path_factory.mktemp("bundles") / "stories",
        BPETokenizer.fit([TEXT], 300),
        {
            "architecture": "recurrent",
            "cell": "gru",
            "hidden": 32,
            "layers": 1,
            "embedding": 32,
            "tied": True,
        },
        family="stories",
        defaults={"temperature": 0.9, "top_p": 0.95},
        limits={"max_new_tokens": 400},
    )


@pytest.fixture(scope="session")
def gpt_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A char GPT over documents in three categories; no seed words."""
    from inkwell.tokenizer import CharTokenizer

    return _write(
        tmp_path_factory.mktemp("bundles") / "names",
        CharTokenizer.fit([TEXT]),
        {"architecture": "gpt", "layers": 2, "heads": 2, "width": 16, "window": 12, "categories": 4},
        widen=2.0,
        family="names",
        seed_words=False,
        limits={"max_new_tokens": 64},
    )
