"""API keys, hashed at rest, in a file that is read again when it changes.

One key per line, `NAME HASH [admin]`, where HASH is `sha256:HEX` (right for long random keys) or
`scrypt:N:R:P:SALT:HEX` (for chosen ones); `#` begins a comment. `python -m api.keys NAME` makes a key.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

log = structlog.get_logger("api.keys")

_LOOK_AGAIN_S = 1.0
_REMEMBERED = 1024


class KeyFileError(ValueError):
    """The key file cannot be used; names the line."""


@dataclass(frozen=True)
class Caller:
    """Who asks: a key's name, or the empty name where no keys are configured."""

    name: str = ""
    admin: bool = False


ANYBODY = Caller()


@dataclass(frozen=True)
class _Key:
    caller: Caller
    check: Callable[[bytes], bool]


class KeyRing:
    """The keys of one file. A file that became unreadable or wrong leaves the last good keys in force."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._looked_at = clock()
        self._stamp = self._read_stamp()
        self._keys = parse_keys(path.read_text(encoding="utf-8"))
        # scrypt is slow on purpose; a token that was once right is known by its digest.
        self._known: OrderedDict[bytes, Caller] = OrderedDict()

    def caller(self, token: str) -> Caller | None:
        """Whose key `token` is; the time taken does not tell how close a wrong one came."""
        self._refresh()
        raw = token.encode()
        digest = hashlib.sha256(raw).digest()
        known = self._known.get(digest)
        if known is not None:
            return known
        found: Caller | None = None
        for key in self._keys:
            if key.check(raw):
                found = key.caller
        if found is not None:
            self._known[digest] = found
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return found

    def _refresh(self) -> None:
        now = self._clock()
        if now - self._looked_at < _LOOK_AGAIN_S:
            return
        self._looked_at = now
        try:
            stamp = self._read_stamp()
            if stamp == self._stamp:
                return
            keys = parse_keys(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            log.error("key_file_unusable", path=str(self._path), error=str(error))
            return
        self._stamp, self._keys = stamp, keys
        self._known.clear()
        log.info("key_file_read", keys=len(keys))

    def _read_stamp(self) -> tuple[int, int, int]:
        status = self._path.stat()
        return status.st_mtime_ns, status.st_size, status.st_ino


def parse_keys(text: str) -> list[_Key]:
    """Raises `KeyFileError` naming the first line that is wrong."""
    keys = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        if len(words) not in (2, 3) or words[2:] not in ([], ["admin"]):
            raise KeyFileError(f"line {number}: must be NAME HASH [admin]; got {len(words)} words")
        try:
            check = _check_of(words[1])
        except ValueError as error:
            raise KeyFileError(f"line {number}: {error}") from None
        keys.append(_Key(Caller(words[0], admin=len(words) == 3), check))
    return keys


def _check_of(spec: str) -> Callable[[bytes], bool]:
    scheme, _, rest = spec.partition(":")
    if scheme == "sha256":
        expected = bytes.fromhex(rest)
        if len(expected) != 32:
            raise ValueError(f"a sha256 hash has 64 hexadecimal digits; got {len(rest)}")
        return lambda token: hmac.compare_digest(hashlib.sha256(token).digest(), expected)
    if scheme == "scrypt":
        parts = rest.split(":")
        if len(parts) != 5:
            raise ValueError("must be scrypt:N:R:P:SALT:HEX")
        n, r, p = (int(part) for part in parts[:3])
        salt, digest = bytes.fromhex(parts[3]), bytes.fromhex(parts[4])
        try:
            # Refuses bad cost parameters now rather than at the first request.
            hashlib.scrypt(b"", salt=salt, n=n, r=r, p=p, maxmem=_MAX_MEMORY, dklen=len(digest))
        except (TypeError, OverflowError) as error:
            raise ValueError(f"scrypt takes no cost of {n}:{r}:{p}: {error}") from None

        def check(token: bytes) -> bool:
            made = hashlib.scrypt(token, salt=salt, n=n, r=r, p=p, maxmem=_MAX_MEMORY, dklen=len(digest))
            return hmac.compare_digest(made, digest)

        return check
    raise ValueError(f"the hash must begin with sha256: or scrypt:; got {scheme!r}")


_MAX_MEMORY = 128 * 1024 * 1024


def make_key(name: str, *, admin: bool = False) -> tuple[str, str]:
    """A new random key and the line for the file."""
    token = f"iw-{secrets.token_urlsafe(32)}"
    line = f"{name} sha256:{hashlib.sha256(token.encode()).hexdigest()}"
    return token, f"{line} admin" if admin else line


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if not arguments or arguments[1:] not in ([], ["admin"]):
        sys.exit("usage: python -m api.keys NAME [admin]")
    secret, entry = make_key(arguments[0], admin=len(arguments) == 2)
    sys.stdout.write(f"key (shown once): {secret}\nline for the key file: {entry}\n")
