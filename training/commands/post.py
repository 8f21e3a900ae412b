"""`inkwell post`: one generated text to X, Mastodon, Bluesky, Discord or standard output."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from inkwell.bundle import open_bundle
from inkwell.session import TextEngine
from training.bot.candidates import BundleSource, GatewaySource, Source
from training.bot.choosing import Rules, read_block_list
from training.bot.history import History, Row
from training.bot.oauth import Access, PinFlow
from training.bot.platforms import NAMES, open_platform
from training.bot.platforms.x import consumer_of
from training.bot.posting import Outcome, Plan, run
from training.bot.runs import RunLog
from training.bot.schedule import Schedule, interval, keep_posting, stopping
from training.bot.settings import BotSettings
from training.commands.common import find_model, plain_errors
from training.device import pick_device
from training.errors import UserError

app = typer.Typer(
    name="post",
    help="Post a generated text to X, Mastodon, Bluesky, Discord or standard output.",
    invoke_without_command=True,
    rich_markup_mode="rich",
)
notes = Console(stderr=True)


@app.callback(epilog="Credentials are read from the environment; [bold]docs/bot.md[/bold] lists them.")
@plain_errors
def post(
    context: typer.Context,
    to: Annotated[str, typer.Option("--to", help=f"Where: {', '.join(NAMES)}.")] = "stdout",
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="A model's name; here also a bundle.")
    ] = None,
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="What the text begins with.")] = "",
    url: Annotated[str | None, typer.Option(help="The gateway to ask; else INKWELL_URL, else here.")] = None,
    local: Annotated[bool, typer.Option("--local", help="Generate here, whatever INKWELL_URL says.")] = False,
    candidates: Annotated[int, typer.Option("--candidates", "-n", help="How many texts to choose from.")] = 8,
    rounds: Annotated[int, typer.Option(help="How often to draw anew when none is suitable.")] = 3,
    max_new_tokens: Annotated[int | None, typer.Option("--length", "-l", help="Most tokens of each.")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", "-t")] = None,
    top_p: Annotated[float | None, typer.Option()] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same candidates.")] = None,
    category: Annotated[str | None, typer.Option("--category", "-c")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any parameter, as JSON: min_p=0.05")
    ] = None,
    min_chars: Annotated[int, typer.Option(help="Shorter texts are not posted.")] = 1,
    block_list: Annotated[
        Path | None, typer.Option(help="Words and /patterns/ that no post may hold.")
    ] = None,
    novelty: Annotated[
        str, typer.Option(help="any, known (no known copies), proven (only new ones).")
    ] = "known",
    similarity: Annotated[float, typer.Option(help="From here on a text counts as posted before.")] = 0.8,
    unfinished: Annotated[bool, typer.Option(help="Also texts cut in mid-sentence.")] = False,
    history: Annotated[Path | None, typer.Option(help="The history file; else INKWELL_POST_HISTORY.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be posted; send nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The outcome as one JSON object.")] = False,
    every: Annotated[
        str | None, typer.Option(help="Stay, and post so often, from midnight UTC on: 30m, 4h, 1d.")
    ] = None,
    retries: Annotated[int, typer.Option(help="With --every: attempts after one that failed.")] = 3,
) -> None:
    """Draw candidates, choose one that suits the platform, and post it exactly once. Examples:

      inkwell post --to stdout --model souls

      inkwell post --to mastodon --model souls --url http://127.0.0.1:8000 --dry-run

      inkwell post --to x --model souls --block-list words.txt --novelty proven

      inkwell post --to mastodon --model souls --every 4h

    Exit codes: 0 posted, 2 bad option, 10 nothing suitable, 11 rate limited, 12 credentials, 13 platform down,
    14 no text to be had; 1 and 3 for a history or a model that cannot be used.
    """
    if context.invoked_subcommand is not None:
        return
    settings = BotSettings.from_env()
    parameters = _parameters(
        set_,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        category=category,
    )
    blocked = read_block_list(block_list) if block_list is not None else ()
    path = history or settings.history

    def once() -> None:
        platform = open_platform(to, settings)
        try:
            rules = Rules(platform.limit(), platform.length, min_chars, novelty, not unfinished, blocked)
            plan = Plan(rules, candidates, rounds, similarity)
            source = _source(settings, model, prompt, parameters, url, local, candidates)
            try:
                with History.open(path) as past:
                    outcome = run(platform, source, past, plan, dry_run=dry_run, say=_say)
            finally:
                source.close()
        finally:
            platform.close()
        _show(outcome, to, as_json, dry_run)

    if every is None:
        once()
        return
    schedule = Schedule(interval(every), retries)
    if seed is not None:
        raise UserError("--seed with --every would draw the same candidates each time; leave one of them out")
    with RunLog(path) as log, stopping() as wait:
        keep_posting(once, schedule, log, to, wait=wait, say=_say)


@app.command()
@plain_errors
def auth(
    save: Annotated[
        Path | None, typer.Option(help="Write the tokens into this new file, for you only.")
    ] = None,
) -> None:
    """Let an X account allow this app to post: open the address, type the PIN, keep the tokens.

    Needs INKWELL_X_CONSUMER_KEY and INKWELL_X_CONSUMER_SECRET. Example: inkwell post auth --save x.env
    """
    settings = BotSettings.from_env()
    if save is not None and save.exists():
        raise UserError(f"--save {save} is there already; name a new file")
    flow = PinFlow(settings.x.url, consumer_of(settings.x), settings.deadline)
    try:
        notes.print("Open this address as the account that is to post, and allow the app:")
        notes.print(f"  {flow.begin()}", highlight=False, soft_wrap=True, markup=False)
        access = flow.finish(typer.prompt("PIN", err=True))
    finally:
        flow.close()
    _keep(access, save)


@app.command("history")
@plain_errors
def history_command(
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many, newest first.")] = 20,
    to: Annotated[str | None, typer.Option("--to", help="Only this platform.")] = None,
    history: Annotated[Path | None, typer.Option(help="The history file; else INKWELL_POST_HISTORY.")] = None,
    runs: Annotated[
        bool, typer.Option("--runs", help="How the runs of `inkwell post --every` ended instead.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per post.")] = False,
) -> None:
    """What was posted, refused, or may have been posted. Example: inkwell post history --to mastodon"""
    if to is not None and to not in NAMES:
        raise UserError(f"--to {to!r} must be one of {', '.join(NAMES)}")
    path = history or BotSettings.from_env().history
    if not path.is_file():
        notes.print(f"nothing was posted yet: there is no {path}", highlight=False, soft_wrap=True)
        return
    if runs:
        _show_runs(path, count, to, as_json)
        return
    with History.open(path) as past:
        rows = past.latest(count, to)
    if as_json:
        for row in rows:
            typer.echo(json.dumps(_plain(row), ensure_ascii=False))
        return
    table = Table("when", "platform", "state", "text", "link or reason", box=None, pad_edge=False)
    for row in rows:
        place = Text(row.url or row.remote_id or row.reason or "")
        table.add_row(_when(row.reserved_at), row.platform, row.state, Text(row.text), place)
    Console().print(table)


def _show_runs(path: Path, count: int, to: str | None, as_json: bool) -> None:
    with RunLog(path) as log:
        found = log.latest(count, to)
    if as_json:
        for item in found:
            typer.echo(json.dumps({**asdict(item), "started": _when(item.started)}, ensure_ascii=False))
        return
    table = Table("when", "platform", "attempts", "exit code", "what went wrong", box=None, pad_edge=False)
    for item in found:
        table.add_row(
            _when(item.started), item.platform, str(item.attempts), str(item.code), Text(item.message)
        )
    Console().print(table)


def _parameters(extra: list[str] | None, **given: Any) -> dict[str, Any]:
    parameters = {name: value for name, value in given.items() if value is not None}
    for item in extra or []:
        name, equals, value = item.partition("=")
        if not equals:
            raise UserError(f"--set {item!r} must look like min_p=0.05")
        if name in ("n", "return_full_text", "prompt", "id"):
            raise UserError(f"--set {name}: the bot chooses that itself")
        try:
            parameters[name] = json.loads(value)
        except ValueError:
            parameters[name] = value
    return parameters


def _source(
    settings: BotSettings,
    model: str | None,
    prompt: str,
    parameters: dict[str, Any],
    url: str | None,
    local: bool,
    candidates: int,
) -> Source:
    if local and url is not None:
        raise UserError("--local and --url contradict each other")
    address = None if local else url or settings.url
    if address is not None:
        key = settings.api_key.reveal() if settings.api_key is not None else None
        return GatewaySource(
            address, model, prompt or None, parameters, api_key=key, deadline=settings.deadline
        )
    if model is None:
        raise UserError("--model is needed to generate here (or --url to ask a gateway for its default)")
    bundle = open_bundle(find_model(model), pick_device("cpu"))
    return BundleSource(TextEngine(bundle, slots=max(1, min(candidates, 64))), prompt or None, parameters)


def _show(outcome: Outcome, to: str, as_json: bool, dry_run: bool) -> None:
    posted = outcome.posted
    if as_json:
        found = {
            "platform": to,
            "posted": posted is not None,
            "text": outcome.text,
            "id": posted and posted.remote_id,
            "url": posted and posted.url,
            "again": posted is not None and posted.again,
            "model": outcome.candidate and outcome.candidate.model,
            "seed": outcome.candidate and outcome.candidate.seed,
        }
        typer.echo(json.dumps(found, ensure_ascii=False))
    elif dry_run:
        typer.echo(outcome.text)
        _say(f"dry run: nothing was sent to {to}")
    elif to != "stdout" and posted is not None:
        typer.echo(posted.url or posted.remote_id or outcome.text)
        if posted.again:
            _say(f"{to} had this post already")


def _keep(access: Access, save: Path | None) -> None:
    """The access pair as lines of an environment file: into `save`, readable by its owner only, or shown."""
    lines = f"INKWELL_X_ACCESS_TOKEN={access.pair.key}\nINKWELL_X_ACCESS_TOKEN_SECRET={access.pair.secret}\n"
    whose = f" for @{access.screen_name}" if access.screen_name else ""
    if save is None:
        typer.echo(lines, nl=False)
        _say(f"tokens{whose}: keep them secret")
        return
    with os.fdopen(os.open(save, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(lines)
    _say(f"tokens{whose} are in {save}")


def _say(note: str) -> None:
    notes.print(note, style="dim", highlight=False, markup=False, soft_wrap=True)


def _plain(row: Row) -> dict[str, Any]:
    return {
        "platform": row.platform,
        "account": row.account,
        "state": row.state,
        "text": row.text,
        "reserved_at": _when(row.reserved_at),
        "settled_at": None if row.settled_at is None else _when(row.settled_at),
        "id": row.remote_id,
        "url": row.url,
        "model": row.model,
        "seed": row.seed,
        "reason": row.reason,
    }


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
