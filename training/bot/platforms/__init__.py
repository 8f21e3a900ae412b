"""The platforms by name."""

from __future__ import annotations

from training.bot.platforms.base import Platform, Posted
from training.bot.platforms.bluesky import Bluesky
from training.bot.platforms.discord import Discord
from training.bot.platforms.mastodon import Mastodon
from training.bot.platforms.stdout import Stdout
from training.bot.platforms.x import X
from training.bot.settings import BotSettings
from training.errors import UserError

NAMES = ("x", "mastodon", "bluesky", "discord", "stdout")

__all__ = ["NAMES", "Bluesky", "Discord", "Mastodon", "Platform", "Posted", "Stdout", "X", "open_platform"]


def open_platform(name: str, settings: BotSettings) -> Platform:
    """The platform `name` with its credentials. Raises UserError for another name, AuthFailed without them."""
    if name == "x":
        return X(settings.x, settings.deadline)
    if name == "mastodon":
        return Mastodon(settings.mastodon, settings.deadline)
    if name == "bluesky":
        return Bluesky(settings.bluesky, settings.deadline)
    if name == "discord":
        return Discord(settings.discord, settings.deadline)
    if name == "stdout":
        return Stdout()
    raise UserError(f"--to {name!r} must be one of {', '.join(NAMES)}")
