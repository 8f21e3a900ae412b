"""Cleaning single game texts: blanks, markup, labels, prefixes, upgrades, body parts, menu strings."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field

_BLANKS = frozenset(
    {"", "%null%", "no_text", "no text", "none text", "none", "null", "(dummytext)", "dummytext", "dummy"}
    | {"[error]", "-", "--", "?", "...", "…"}
)

HOLE = "\ufffc"  # stands where the game would put a value or a button: such a sentence is not text
_HOLES = re.compile(
    r"<\?[^<>]*\??>"  # <?gdsparam@0?>, <?keyicon@3?>
    r"|#c[0-9A-Za-z]*"  # colour and button codes
    r"|%(?:\d+\$)?[sd]\b|&[sd]\b|\{\d+\}"  # %s, %1$d, &s, {0}
)
_TAGS = re.compile(r"</?[A-Za-z][^<>\n]{0,200}>")
_EMPHASIS = re.compile(r"\*\*([^*\n]+)\*\*|(?<![\w_])_([^_\n]+)_(?![\w_])")
_RULES = re.compile(r"(?<!\S)[-=_*]{4,}(?!\S)")  # drawn lines
_SPACE_BEFORE_MARK = re.compile(r"[ \t]+([.,;:!?])(?=\s|$)")

_LABEL = re.compile(
    r"^[ \t]*(?P<label>weapon type|attack type|weapon category|skill|durability|weight)[ \t]*[:：]"
    r"[ \t]*(?P<value>.*)$",
    re.IGNORECASE,
)
_PREFIX = re.compile(
    r"^(?P<prefix>sorcery|miracle|pyromancy|hex|spell|incantation)\s*[:：]\s*(?P<rest>.+)$", re.I
)
_UPGRADE = re.compile(r"^(?P<base>.+?)\s*(?:\(\s*\+(?P<inner>\d{1,2})\s*\)|[+＋](?P<plain>\d{1,2}))$")

_NUMBER = re.compile(r"(?<!\S)\d+(?:[-–]\d+)?(?!\S)")
_MARK = re.compile(r"[.!?…:][\"'”’)]*(?=\s)")

_BODY = "head|face|hair(?:style)?|beard|eyes?|(?:eye)?brows?|body|torso|chest|arms?|legs?|hands?|feet|skin"
_OWNER = "(?:fe)?male|man|woman|naked|nude|bare|default|dummy|player|(?:fe)?male naked"
_BODY_PART = re.compile(rf"^(?:(?:{_OWNER})\s+)?(?:{_BODY})$", re.IGNORECASE)
_FIST = re.compile(r"^(?:bare )?(?:fists?|hands?)$|^unarmed$", re.IGNORECASE)
_CARVING = re.compile(r"^carving\s*[:：]|\bcarving$", re.IGNORECASE)

_CONSOLE = re.compile(
    r"\b(?:PSN|PlayStation|Xbox|Steam account|NAT type|DLC|DARK SOULS|SEKIRO)\b"
    r"|(?i:\b(?:multi-?player|online play|play online|network|matchmaking|save data|game data|amiibo|"
    r"gamertag|downloadable content|leaderboards?)\b)"
)
# "in service of the menu" may well stand in an item's text, so these hold for other files only.
_MENU = re.compile(
    r"\b(?:menus?|settings|session|server|controller|buttons?|keyboard|title screen)\b", re.IGNORECASE
)
# In a file of menu texts even plain words give a message away; in talk they would cost good lines.
_SYSTEM = re.compile(
    r"\b(?:options?|log(?:ged)? (?:in|out)|sign(?:ed)? (?:in|out)|mouse|screen|resolution|press|select|"
    r"cancel|confirm|data|load(?:ed|ing)?|sav(?:e|ed|ing)|profile|invit(?:e|ation)|host|player|"
    r"brightness|volume|subtitles|camera|hard (?:disk|drive)|files?|connect(?:ed|ing|ion)?)\b",
    re.IGNORECASE,
)
_MENU_FILE = re.compile(
    "メニュー|ダイアログ|ヘルプ|ガイド|システム|タグ|menu|dialog|help|guide|system|tos|network|common",
    re.IGNORECASE,
)


def is_blank(text: str | None) -> bool:
    """Whether an entry is one of the ways in which these files say nothing."""
    return text is None or text.strip().lower() in _BLANKS


def plain(text: str) -> str:
    """Text without markup; what the game would fill in becomes `HOLE`. Line ends stay."""
    for _ in range(2):  # some unpackers escape what was escaped already
        text = html.unescape(text)
    text = text.replace("\\r", "").replace("\\n", "\n")  # line ends that were escaped on the way
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u00a0", " ").replace("\u3000", " ")
    text = _HOLES.sub(HOLE, text)
    text = _TAGS.sub("", text)
    text = _EMPHASIS.sub(lambda m: m[1] or m[2], text)
    text = _RULES.sub(" ", text)
    lines = (" ".join(line.split()) for line in text.split("\n") if not _is_table_line(line))
    return _SPACE_BEFORE_MARK.sub(r"\1", "\n".join(lines)).strip()


def _is_table_line(line: str) -> bool:
    stripped = line.strip()
    return stripped.startswith("|") and stripped.endswith("|") and len(stripped) > 1


@dataclass(frozen=True)
class Labelled:
    """A description apart from its label lines. `skill` is the text under a `Skill:` line."""

    text: str
    fields: dict[str, str] = field(default_factory=dict)
    skill: str = ""


def take_labels(text: str) -> Labelled:
    """Split `Weapon type: …` and the like off a description; the rest of a `Skill:` part is set aside.

    A `Skill:` part runs to the next blank line or label.
    """
    fields: dict[str, str] = {}
    body: list[str] = []
    skill: list[str] = []
    in_skill = False
    for line in text.split("\n"):
        found = _LABEL.match(line)
        if found:
            label = found["label"].lower()
            fields.setdefault(label, found["value"].strip())
            in_skill = label == "skill"
        elif in_skill and line.strip():
            skill.append(line)
        else:
            in_skill = False
            body.append(line)
    return Labelled("\n".join(body).strip(), fields, "\n".join(skill).strip())


def take_prefix(name: str) -> tuple[str, str | None]:
    """`Miracle: Heal` → ("Heal", "miracle"); other names come back unchanged with None."""
    found = _PREFIX.match(name)
    return (found["rest"].strip(), found["prefix"].lower()) if found else (name, None)


def take_upgrade(name: str) -> tuple[str, int]:
    """`Dagger +3` or `Dagger (+3)` → ("Dagger", 3); 0 for a name without a level."""
    found = _UPGRADE.match(name)
    return (found["base"].strip(), int(found["inner"] or found["plain"])) if found else (name, 0)


def is_body_part(name: str, kind: str) -> bool:
    """Names of the naked character's parts, which are stored as armour, and of the bare fist."""
    if kind in ("armour", "item") and _BODY_PART.match(name):
        return True
    return kind in ("weapon", "item") and _FIST.match(name) is not None


def is_carving(name: str) -> bool:
    """Names of the talking head carvings, whose texts are all one text."""
    return _CARVING.search(name) is not None


def take_table(sentence: str) -> tuple[str, str]:
    """A sentence and the table that was run together behind it: a rest without an end that holds several numbers.
    ("Roll once. d4 Kind 1 Acid 2 Cold 3 Fire 4 Ice" → "Roll once.", "d4 Kind 1 Acid 2 Cold 3 Fire 4 Ice")"""
    if sentence.rstrip("\"'”’)").endswith((".", "!", "?", "…")):
        return sentence, ""
    at = max((found.end() for found in _MARK.finditer(sentence)), default=0)
    head, rest = sentence[:at].strip(), sentence[at:].strip()
    return (head, rest) if len(_NUMBER.findall(rest)) >= 4 else (sentence, "")


def speaks_of_the_console(sentence: str) -> bool:
    """Sentences about the machine, the network or the product rather than the world."""
    return _CONSOLE.search(sentence) is not None


def is_menu_string(text: str, stem: str) -> bool:
    """Whether a text from a file without items (`stem` is its name) belongs to menus and messages."""
    if speaks_of_the_console(text) or _MENU.search(text):
        return True
    return _MENU_FILE.search(stem) is not None and _SYSTEM.search(text) is not None
