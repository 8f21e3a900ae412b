"""How often stories keep what was asked of them, told freely and told with rules; and what the rules cost.

Both sides have the same model, prompt and seeds. The prompt names two friends. Asked are: both friends are
mentioned after it and nobody else is named, no four words in a row come twice, one word comes and one does not,
and the last sentence is a given one. What is counted is read from the finished text.

    inkwell bench stories [--bundle bundles/stories] [--count 1000] [--length 200] [--show 3]
"""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from measure import console, machine, show

from inkwell.bundle import open_bundle
from inkwell.lexicon import TITLES, ordinary_words
from inkwell.session import TextEngine

PROMPT = "Once upon a time there were two friends named Mia and Tom."
ENDING = "And they all went home."
RULES: dict[str, Any] = {
    "characters": ["Mia", "Tom"],
    "required_words": ["boat"],
    "forbidden_words": ["sad"],
    "forbid_loops": 4,
    "ending": ENDING,
}
_WORD = re.compile(r"([^a-zA-Z]*)([a-zA-Z]+)")


def broken(text: str, ordinary: frozenset[str]) -> set[str]:
    """Which of RULES a text after PROMPT breaks."""
    found = set()
    told = text.removesuffix(ENDING)
    if told == text or not re.search(r"[.!?…][\"'”’)\]]* \Z", told):
        found.add("ending")
    before = len(_WORD.findall(PROMPT))
    words = _WORD.findall(PROMPT + told)
    lower = [word.lower() for _, word in words]
    if not {"Mia", "Tom"} <= {word for _, word in words[before:]}:
        found.add("a friend is forgotten")
    if "boat" not in lower[before:]:
        found.add("required word")
    if "sad" in lower:
        found.add("forbidden word")
    runs = [tuple(lower[at : at + 4]) for at in range(len(lower) - 3)]
    if len(set(runs)) < len(runs):
        found.add("loop")
    for gap, word in words[before:]:
        inside = re.fullmatch(r"[ ,\-'’\t]*", gap) is not None
        if (
            word[0].isupper()
            and word not in {"Mia", "Tom", *TITLES}
            and (inside or word.lower() not in ordinary)
        ):
            found.add("somebody else is named")
    return found


def stories(bundle: Any, rules: dict[str, Any], count: int, length: int) -> tuple[list[str], float]:
    """Texts of seeds 0 to count − 1, 64 at a time, and the seconds they took."""
    engine = TextEngine(bundle, slots=64)
    sinks: list[list[dict[str, Any]]] = []
    started = time.perf_counter()
    for seed in range(count):
        sinks.append([])
        job = {"id": str(seed), "prompt": PROMPT, "seed": seed, "max_new_tokens": length, **rules}
        if engine.submit(job, sinks[-1]) is None:
            raise SystemExit(sinks[-1][-1]["error"])
    while not engine.idle:
        engine.advance()
    return [sink[-1]["text"] for sink in sinks], time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=Path("bundles/stories"))
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--length", type=int, default=200, help="most tokens of each")
    parser.add_argument("--show", type=int, default=0, help="stories to print")
    options = parser.parse_args()
    torch.set_num_threads(1)
    bundle = open_bundle(options.bundle)
    index = bundle.load_novelty()
    if index is None:
        raise SystemExit(f"{options.bundle} does not hold the texts it has learned from")
    ordinary = ordinary_words(index.documents)
    kinds = {
        "a friend is forgotten": "forgot",
        "somebody else is named": "others",
        "loop": "loops",
        "required word": "word",
        "forbidden word": "barred",
        "ending": "ending",
    }
    lines: list[tuple[object, ...]] = []
    for name, rules in (("freely", {}), ("with rules", RULES)):
        texts, seconds = stories(bundle, rules, options.count, options.length)
        counts = Counter(kind for text in texts for kind in broken(text, ordinary))
        faultless = sum(not broken(text, ordinary) for text in texts)
        lines.append((name, *(counts[kind] for kind in kinds), faultless, f"{options.count / seconds:.1f}"))
        for text in texts[: options.show]:
            console.print(f"\n[{name}] {PROMPT}{text}", markup=False, highlight=False)
    title = f"{options.count} stories of {bundle.config.name}, up to {options.length} tokens"
    show(title, ("", *kinds.values(), "clean", "per s"), lines)
    console.print(machine())


if __name__ == "__main__":
    main()
