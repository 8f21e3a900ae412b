"""Where the worker's image gets a CPU build of torch: an index that is named, or a wheel that lies on this disk."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from proof_base import pip_setting


@contextmanager
def index(folder: Path) -> Iterator[str]:
    """The address for the build argument TORCH_INDEX: the environment's, or a server on loopback in `folder`."""
    if named := os.environ.get("TORCH_INDEX"):
        yield named
        return
    wheels = [
        wheel
        for place in pip_setting("find-links").split()
        for wheel in Path(place.removeprefix("file://")).glob("torch-*cp311-cp311-*.whl")
    ]
    if not wheels:
        raise RuntimeError(
            "TORCH_INDEX is not set and pip's find-links holds no wheel of torch for Python 3.11: set "
            "TORCH_INDEX to PyTorch's index of CPU builds"
        )
    listing = folder / "torch-index" / "torch"
    listing.mkdir(parents=True, exist_ok=True)
    for wheel in wheels:
        if not (listing / wheel.name).exists():
            (listing / wheel.name).symlink_to(wheel)
    handler = functools.partial(_Quiet, directory=str(listing.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass
