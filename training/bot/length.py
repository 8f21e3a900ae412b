"""The length of a text as each platform counts it."""

from __future__ import annotations

import unicodedata

import regex

from training.bot.links import Link, links
from training.bot.tlds import TLDS

X_LINK = 23
_LIGHT = ((0, 4351), (8192, 8205), (8208, 8223), (8242, 8247))
_EMOJI_PART = r"(?:\p{Emoji}(?<![0-9#*\u00A9\u00AE])|[\u00A9\u00AE](?=\uFE0F))(?!\uFE0E)(?:\p{EMod}|\uFE0F)?"
_EMOJI = regex.compile(
    rf"\p{{RI}}\p{{RI}}|[0-9#*]\uFE0F?\u20E3|{_EMOJI_PART}[\U000E0020-\U000E007F]*(?:\u200D{_EMOJI_PART})*"
)
_MENTION = regex.compile(r"(?<![\w/])@([\w]+(?:[\w.-]+\w)?)@[\w.-]+\w")


def x_length(text: str) -> int:
    """The weighted length of X (twitter-text's configuration 3): at most 280 may be posted.

    Of the NFC form, Latin and other alphabetic scripts up to U+10FF and common punctuation weigh 1,
    everything else 2; an emoji, however many code points it has, 2; a link 23 whatever its length. Where a
    link's bounds depend on unusual characters, the result is an upper bound.
    """
    text = unicodedata.normalize("NFC", text)
    total, at = 0, 0
    for link in links(text):
        total += _weight(text[at : link.start]) + _link_weight(text, link)
        at = link.end
    return total + _weight(text[at:])


def graphemes(text: str) -> int:
    """Grapheme clusters, what people call characters: Bluesky's measure, at most 300."""
    return len(regex.findall(r"\X", text))


def mastodon_length(text: str, per_link: int = 23) -> int:
    """Grapheme clusters, where a link counts `per_link` and `@name@host` only as `@name`."""
    parts, at = [], 0
    for link in links(text):
        if link.bare:
            continue
        parts += [text[at : link.start], "x" * per_link]
        at = link.end
    counted = _MENTION.sub(r"@\1", "".join([*parts, text[at:]]))
    return graphemes(counted)


def utf16_length(text: str) -> int:
    """UTF-16 code units, at most 2,000 in Discord's clients; never fewer than the code points."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _weight(text: str) -> int:
    total, at = 0, 0
    for emoji in _EMOJI.finditer(text):
        total += sum(map(_sign_weight, text[at : emoji.start()])) + (2 if _is_one(emoji.group()) else 4)
        at = emoji.end()
    return total + sum(map(_sign_weight, text[at:]))


def _is_one(emoji: str) -> bool:
    """Two regional indicators are one emoji, a flag, only when there is such a country."""
    letters = [chr(ord(sign) - 0x1F1E6 + ord("a")) for sign in emoji if 0x1F1E6 <= ord(sign) <= 0x1F1FF]
    return len(letters) != 2 or "".join(letters) in TLDS or letters == ["g", "b"]


def _sign_weight(sign: str) -> int:
    code = ord(sign)
    return 1 if any(first <= code <= last for first, last in _LIGHT) else 2


def _link_weight(text: str, link: Link) -> int:
    if link.clean:
        return X_LINK
    return X_LINK + _weight(text[link.start : link.end])
