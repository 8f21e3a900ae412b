"""Logs: one JSON object per line on standard error, each with its request's id."""

from __future__ import annotations

import logging
import os
import sys
from typing import BinaryIO, cast

import orjson
import structlog


def configure(level: str) -> None:
    """Set up structlog, and lead what libraries log (uvicorn above all) into it."""
    number = _LEVELS[level]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(serializer=_dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.BytesLoggerFactory(cast(BinaryIO, Lines(sys.stderr.fileno()))),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_Forward()]
    root.setLevel(max(number, logging.INFO))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "httpx"):
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.propagate = True
    # The gateway logs requests itself, with their ids.
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)


_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Lines:
    """A file of log lines that never stands in the way: what a full disk does not take is counted and left out, and
    the number is told once there is room again."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.lost = 0

    def write(self, line: bytes) -> int:
        if self.lost:
            line = _dumps({"event": "log_lines_lost", "level": "error", "lines": self.lost}) + b"\n" + line
        try:
            os.write(self._descriptor, line)
        except OSError:
            self.lost += 1
        else:
            self.lost = 0
        return len(line)

    def flush(self) -> None:
        """Nothing is held back."""


class _Forward(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(record.name)
        log.log(
            record.levelno,
            "library",
            logger=record.name,
            message=record.getMessage(),
            exc_info=record.exc_info,
        )


def _dumps(event: object, **_: object) -> bytes:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS)
