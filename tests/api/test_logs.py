"""Log lines go out whole, and a disk that is full takes nothing down."""

from __future__ import annotations

import json
import os

import pytest

from api.logs import Lines


def test_lines_that_find_no_room_are_counted_and_told_later(tmp_path):
    full, there = os.open("/dev/full", os.O_WRONLY), os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    try:
        lines = Lines(full)
        with pytest.raises(OSError, match="No space"):
            os.write(full, b"x")
        for _ in range(3):
            lines.write(b'{"event":"lost"}\n')
        os.dup2(there, full)
        lines.write(b'{"event":"kept"}\n')
        lines.write(b'{"event":"kept too"}\n')
    finally:
        os.close(full)
        os.close(there)
    written = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [one["event"] for one in written] == ["log_lines_lost", "kept", "kept too"]
    assert written[0]["lines"] == 3
