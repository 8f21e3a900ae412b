"""`inkwell archive`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from deploy import settings as deploy_settings
from deploy.archives import sha256_of
from deploy.errors import ArchiveError
from deploy.store import read_index
from inkwell.runtimes import AUTO
from training.archive import archive as build
from training.commands.common import BUNDLES, find_model, models_file, plain_errors
from training.errors import UserError
from training.rounding import FILE, MOST_LOSS, Judgement, judge

console = Console()


@plain_errors
def archive(
    names: Annotated[
        list[str] | None, typer.Argument(help="Models or bundle directories. [default: all]")
    ] = None,
    store: Annotated[Path | None, typer.Option(help="Where archives go. [default: model_store]")] = None,
    missing: Annotated[
        bool, typer.Option("--missing", help="Only what is not there or older than its bundle.")
    ] = False,
    runtime: Annotated[
        str,
        typer.Option(help="native: int8 or nothing; torch, onnx: float32; auto: int8 if it costs little."),
    ] = AUTO,
    max_loss: Annotated[
        float, typer.Option(min=0.0, help="Most that int8 may cost, in nats per token of held-out text.")
    ] = MOST_LOSS,
) -> None:
    """Pack bundles into .mar archives and list their hashes.

    What int8 would cost a model is measured on held-out text of its own source and remembered in the bundle and
    the archive: workers compute in int8, many times faster, where it passes. Examples:

      inkwell archive

      inkwell archive prose

      inkwell archive bundles/letters --store model_store

      inkwell archive prose --runtime native --max-loss 0.005

    Exit codes: 0 done, 1 disk full, 2 bad option, 3 bad bundle, or int8 costs more than was allowed.
    """
    target = store or deploy_settings.from_environment().model_store
    entries = models_file().models
    folders = [find_model(name) for name in names] if names else [BUNDLES / name for name in entries]
    for folder in folders:
        if folder.suffix == ".mar":
            raise UserError(f"{folder} is an archive already; name a bundle directory")
        if missing and _is_fresh(folder, target):
            continue
        if (judgement := judge(folder, runtime, max_loss)) is not None:
            console.print(_told(folder.name, judgement), highlight=False, soft_wrap=True)
        entry = entries.get(folder.name)
        made = build(folder, target, entry.slots if entry is not None else 64)
        console.print(
            f"{made.path}: {made.size / 2**20:.1f} MiB, sha256 {made.sha256[:12]}…, "
            f"about {made.memory_mb} MiB per worker",
            highlight=False,
            soft_wrap=True,
        )


def _told(name: str, judgement: Judgement) -> str:
    runtime, verdict, known = judgement
    if verdict.kl is None:
        return f"{name}: float32; {runtime} is not used: {verdict.reason}"
    lost = verdict.bits_per_byte_lost or 0.0
    return (
        f"{name}: {runtime} {'passes' if verdict.passed else 'does not pass, float32 is kept'}: "
        f"{verdict.kl:.5f} nats per token from float32 (limit {verdict.limit:g}), {lost:+.5f} bits per byte, "
        f"{'measured before' if known else f'on {verdict.tokens:,} held-out tokens'}"
    )


def _is_fresh(bundle: Path, store: Path) -> bool:
    """Whether the archive is listed as it stands, and younger than the bundle and the code that ships in it."""
    made = store / f"{bundle.name}.mar"
    try:
        listed = read_index(store).get(made.name)
    except ArchiveError:
        return False
    if not made.is_file() or listed is None or listed.sha256 != sha256_of(made):
        return False
    root = Path(__file__).resolve().parents[2]
    shipped = [file for kind in ("*.py", "*.cpp", "*.h") for file in (root / "inkwell").rglob(kind)]
    sources = [*shipped, *(root / "handlers").rglob("*.py"), bundle / "config.json", bundle / FILE]
    return made.stat().st_mtime >= max(file.stat().st_mtime for file in sources if file.exists())
