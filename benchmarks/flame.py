"""Where the time of a worker's engine goes: a flame graph of texts being generated, jobs and events included.

py-spy samples the process from outside (`pip install py-spy`). Widths are shares of the time in which texts were
generated; the frame of a call into the C++ core stands for all that is computed in it.

    inkwell bench flame --out engine.png [--bundle bundles/prose] [--runtime native] [--rows 64] [--seconds 10]
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import torch
from measure import console, machine

from inkwell.bundle import load_bundle
from inkwell.session import TextEngine

TOKENS = 200


def generate(bundle: Path, runtime: str, rows: int, seconds: float) -> int:
    """Keep all rows busy for so long; how many tokens were generated."""
    torch.set_num_threads(1)
    engine = TextEngine(load_bundle(bundle), rows, runtime=runtime)
    engine.warm_up()
    longest = min(TOKENS, engine.bundle.limits.max_new_tokens)
    begun, number = time.monotonic(), 0
    while time.monotonic() < begun + seconds:
        for _ in range(2 * rows):
            number += 1
            engine.submit({"id": str(number), "seed": number, "max_new_tokens": longest}, [])
        while not engine.idle:
            engine.advance()
    return engine.engine.stats.tokens


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="the picture, .png or .svg")
    parser.add_argument("--bundle", type=Path, default=Path("bundles/prose"))
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        tokens = generate(options.bundle, options.runtime, options.rows, options.seconds)
        console.print(f"{tokens:,} tokens with {options.rows} rows; {machine()}")
        return
    found = Path(sys.executable).with_name("py-spy")
    spy = str(found) if found.exists() else shutil.which("py-spy")
    if spy is None:
        parser.error("py-spy is not installed; pip install py-spy")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    words = [
        word
        for name in ("bundle", "runtime", "rows", "seconds")
        for word in (f"--{name}", getattr(options, name))
    ]
    with tempfile.TemporaryDirectory() as scratch:
        stacks = Path(scratch) / "stacks.txt"
        record = [spy, "record", "--rate", "250", "--format", "raw", "--function", "--output", stacks, "--"]
        inner = [sys.executable, __file__, "--inside", "--out", options.out, *words]
        done = subprocess.run([str(word) for word in (*record, *inner)], check=False)
        if done.returncode:
            sys.exit(done.returncode)
        draw(stacks.read_text(encoding="utf-8"), options.out)
    console.print(f"the flame graph is in {options.out}")


def merged(stacks: str) -> dict[tuple[str, ...], int]:
    """Samples by stack, below and with `generate`, from py-spy's lines of `frame;frame;frame count`."""
    found: dict[tuple[str, ...], int] = {}
    for line in stacks.splitlines():
        frames, _, count = line.rpartition(" ")
        names = [_short(frame) for frame in frames.split(";")]
        if "generate (flame)" in names:
            stack = tuple(names[names.index("generate (flame)") :])
            for depth in range(1, len(stack) + 1):
                found[stack[:depth]] = found.get(stack[:depth], 0) + int(count)
    return found


def draw(stacks: str, out: Path) -> None:
    """The flame graph, callers above those that they call, in order of their names."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    samples = merged(stacks)
    total = samples[("generate (flame)",)]
    deepest = max(len(stack) for stack, count in samples.items() if count >= total / 500)
    figure = Figure(figsize=(14, 0.42 * deepest + 0.4))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.01, 0.02, 0.98, 0.96))
    left: dict[tuple[str, ...], float] = {(): 0.0}
    for stack in sorted(samples):
        share, begin = samples[stack] / total, left.get(stack[:-1], 0.0)
        left[stack], left[stack[:-1]] = begin, begin + share
        if share < 0.002:
            continue
        shade = zlib.crc32(stack[-1].encode()) % 100 / 100
        color = (0.95 - 0.12 * shade, 0.55 + 0.3 * shade, 0.25 + 0.15 * shade)
        axes.barh(-len(stack), share, left=begin, height=0.94, color=color, edgecolor="white", linewidth=0.6)
        if share > 0.02:
            name = f"{stack[-1]}  {share:.0%}"
            room = int(share * 190)
            text = name if len(name) <= room else name[: max(0, room - 1)] + "…"
            axes.text(
                begin + 0.002, -len(stack), text, va="center", fontsize=8, clip_on=True, color="#222222"
            )
    axes.set_xlim(0, 1)
    axes.set_ylim(-deepest - 0.6, -0.4)
    axes.axis("off")
    figure.savefig(out, dpi=110)


def _short(frame: str) -> str:
    """`name (path/of/module.py)` as `name (module)`."""
    name, _, place = frame.partition(" (")
    return f"{name} ({Path(place.rstrip(')')).stem})" if place else name


if __name__ == "__main__":
    main()
