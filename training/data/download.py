"""Downloads through pooch that go on where they were cut off.

pooch checks the hash and moves a whole file into place at once; this downloader keeps what arrived in
`NAME.part` and asks for the rest next time. A part is only continued when the server gave it an ETag and
still has the same one: otherwise two versions could be glued together.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pooch
import requests

from training.errors import FetchError, IntegrityError

Progress = Callable[[str, int, int | None], None]  # name, bytes so far, bytes in all if known
TIMEOUT = (10.0, 60.0)  # seconds to connect, seconds without a byte
_CHUNK = 1 << 16


def download(url: str, target: Path, sha256: str | None, progress: Progress | None = None) -> None:
    """Bring `url` to `target`. Raises FetchError (net, disk) or IntegrityError (wrong content)."""
    pooch.get_logger().setLevel("ERROR")  # our own sentences instead of its notes about unknown hashes
    part = target.with_name(target.name + ".part")

    def fetch(address: str, output: str, _: object) -> None:
        _continue(address, part, target.name, progress)
        os.replace(part, output)
        _tag_path(part).unlink(missing_ok=True)

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        pooch.retrieve(
            url, f"sha256:{sha256}" if sha256 else None, target.name, target.parent, downloader=fetch
        )
    except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
        raise FetchError(
            f"{target.name}: cannot reach {url} ({_short(error)}). What arrived is kept: run it again "
            "when the network is back, or give a local copy with --mirror FOLDER"
        ) from None
    except requests.RequestException as error:
        raise FetchError(f"{target.name}: {url} failed ({_short(error)})") from None
    except ValueError as error:
        raise IntegrityError(
            f"{target.name}: what {url} sends is not the recorded file ({_short(error)}); nothing was kept"
        ) from None
    except OSError as error:
        raise FetchError(f"{target}: cannot be written ({error.strerror or error})") from None


def _tag_path(part: Path) -> Path:
    return part.with_name(part.name + ".etag")


def _continue(url: str, part: Path, name: str, progress: Progress | None) -> None:
    tag_path = _tag_path(part)
    headers = {"User-Agent": "inkwell", "Accept-Encoding": "identity"}
    have = part.stat().st_size if part.exists() else 0
    if have and tag_path.exists():
        headers |= {"Range": f"bytes={have}-", "If-Range": tag_path.read_text(encoding="utf-8")}
    else:
        have = 0
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            # the part is longer than the file: start over
            part.unlink(missing_ok=True)
            tag_path.unlink(missing_ok=True)
            raise requests.ConnectionError("the kept part does not fit the file any more")
        response.raise_for_status()
        if response.status_code != requests.codes.partial_content:
            have = 0
        tag = response.headers.get("ETag", "")
        if tag and not tag.startswith("W/"):
            tag_path.write_text(tag, encoding="utf-8")
        else:
            tag_path.unlink(missing_ok=True)
        length = response.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else None
        with part.open("ab" if have else "wb") as stream:
            for chunk in response.iter_content(_CHUNK):
                stream.write(chunk)
                have += len(chunk)
                if progress is not None:
                    progress(name, have, total)
    if total is not None and have != total:
        raise requests.ConnectionError(f"the connection ended after {have} of {total} bytes")


def _short(error: Exception) -> str:
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP {response.status_code} {response.reason}"
    text = str(error).strip() or type(error).__name__
    return text if len(text) <= 200 else text[:199] + "…"
