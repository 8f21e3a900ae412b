"""Every kept input, and what it becomes when bytes of it are changed, is read or refused with a reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz import NAMES
from fuzz_corpus import MAKERS
from fuzz_targets import CORPUS, TARGETS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

INPUTS = sorted(path for path in CORPUS.rglob("*") if path.is_file())
# Examples of one target in a quick run; each costs between a fraction of a millisecond and ten.
EXAMPLES = {"bundle": 40, "archive": 40, "regex": 60}


def changed(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """A kept input with a few bytes replaced, cut out, doubled or put in."""

    @st.composite
    def make(draw: Callable[..., bytes]) -> bytes:
        data = bytearray(draw(st.sampled_from(seeds)))
        for _ in range(draw(st.integers(1, 4))):
            at = draw(st.integers(0, len(data)))
            length = draw(st.integers(0, 16))
            piece = draw(st.binary(max_size=8) | st.sampled_from([b"\0", b"\xff", b"[", b'"', b"9" * 30]))
            data[at : at + length] = piece * draw(st.integers(0, 3))
        return bytes(data)

    return make()


def test_every_target_has_inputs_that_the_maker_knows():
    assert set(TARGETS) == set(NAMES) == set(MAKERS)
    for name, make in MAKERS.items():
        kept = {path.name for path in (CORPUS / name).iterdir() if not path.name.startswith("found-")}
        assert kept == set(make()), f"run `python tests/fuzz/fuzz_corpus.py`; {name} differs"


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_kept_input_is_read_or_refused_with_a_reason(path: Path):
    TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("name", NAMES)
def test_changed_inputs_are_read_or_refused_with_a_reason(name: str):
    seeds = [path.read_bytes() for path in INPUTS if path.parent.name == name]
    target = TARGETS[name]

    @settings(
        max_examples=EXAMPLES.get(name, 150),
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(changed([seed for seed in seeds if len(seed) < 20_000]))
    def run(data: bytes) -> None:
        target(data)

    run()
