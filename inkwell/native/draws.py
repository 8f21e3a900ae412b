"""Tokens drawn by the C++ core: for one step of logits, or within a call that makes several steps.

What is drawn is what `inkwell.sampling` would draw from the same logits, but for the last bits of logarithms.
"""

from __future__ import annotations

import ctypes
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from inkwell.models.base import State
from inkwell.running import MOST_STEPS, Cursor, Runner
from inkwell.sampling import Counts, SamplingParams

# As struct Manner of draws.h has them.
_MANNER = struct.Struct("=qqddddfffiiiii")
_BIAS = struct.Struct("=if")
_NO_MEMORY = -3


class Core(Protocol):
    """A network of the library, and the library's functions."""

    functions: Any
    pointer: int


class _Course(ctypes.Structure):
    """As struct Course of network.h has them."""

    _fields_ = (
        ("manners", ctypes.c_void_p),
        ("cursors", ctypes.c_void_p),
        ("feed", ctypes.c_void_p),
        ("prompt", ctypes.c_void_p),
        ("text", ctypes.c_void_p),
        ("rows", ctypes.c_int),
        ("steps", ctypes.c_int),
        ("drawn", ctypes.c_void_p),
        ("logs", ctypes.c_void_p),
    )


class Manner(NamedTuple):
    """How a row is drawn, as the core reads it; `kept` is memory that it points to."""

    packed: bytes
    kept: Any


@dataclass
class _Called:
    """Memory that a call reads and writes."""

    course: _Course
    kept: tuple[Any, ...]
    drawn: array[int]
    logs: array[float]


class NativeRunner(Runner):
    """Draws with one network of the core, `core`. `parts` are the tensors of its states in the core's order."""

    def __init__(self, core: Core, vocabulary: int, parts: Sequence[str]) -> None:
        self._core, self._vocabulary, self._parts = core, vocabulary, tuple(parts)
        self._packed = ctypes.create_string_buffer(0)
        self._settled: list[Manner] = []

    def manner(self, params: SamplingParams, stops: bool, logs: bool = False) -> Manner:
        biases = b"".join(_BIAS.pack(token, bias) for token, bias in params.logit_bias.items())
        kept = ctypes.create_string_buffer(biases, len(biases)) if biases else None
        if any(not 0 <= token < self._vocabulary for token in params.logit_bias):
            raise IndexError(f"logit_bias names tokens beyond 0 to {self._vocabulary - 1}")
        packed = _MANNER.pack(
            params.seed,
            ctypes.addressof(kept) if kept is not None else 0,
            # far above this floor no noise can turn two logits round; below it quotients are infinite
            max(params.temperature, 1e-100) if params.temperature else 0.0,
            params.top_p,
            params.min_p,
            params.typical_p,
            params.repetition_penalty,
            params.frequency_penalty,
            params.presence_penalty,
            min(params.top_k, self._vocabulary),
            len(params.logit_bias),
            params.penalised,
            stops,
            logs,
        )
        return Manner(packed, kept)

    def settle(self, manners: Sequence[Manner]) -> None:
        packed = b"".join(manner.packed for manner in manners)
        self._packed, self._settled = ctypes.create_string_buffer(packed, len(packed)), list(manners)

    def run(
        self, cursors: Sequence[Cursor], feed: Sequence[int], counts: Counts | None, state: State, steps: int
    ) -> list[tuple[list[int], list[float]]]:
        if not 0 < steps <= MOST_STEPS:
            raise ValueError(f"steps is {steps}; allowed are 1 to {MOST_STEPS}")
        rows = len(cursors)
        called = self._call(cursors, feed, counts, steps, rows * steps)
        tensors = state.tensors
        found = (tensors[name].data_ptr() if name in tensors else None for name in self._parts)
        memory = (ctypes.c_void_p * len(self._parts))(*found)
        done = self._core.functions.inkwell_run(self._core.pointer, ctypes.byref(called.course), memory)
        if done == _NO_MEMORY:
            raise MemoryError(f"there is not enough memory to draw for {rows} rows")
        if done <= 0:
            raise IndexError(
                f"the core refused {rows} rows with tokens {[c.token for c in cursors]} and {list(feed)}; "
                f"this model has 0 to {self._vocabulary - 1}"
            )
        parts = [slice(start, start + done) for start in range(0, rows * steps, steps)]
        return [(called.drawn[part].tolist(), called.logs[part].tolist()) for part in parts]

    def draw(
        self,
        logits: Tensor,
        cursors: Sequence[Cursor],
        counts: Counts | None,
        which: Sequence[int],
        allowed: Tensor | None,
    ) -> tuple[list[int], list[float]]:
        called = self._call(cursors, (), counts, 1, len(which))
        logits = logits.to(torch.float32).contiguous()
        rows = array("i", which)
        mask = None if allowed is None else allowed.contiguous()
        status = self._core.functions.inkwell_draw(
            self._core.pointer,
            ctypes.byref(called.course),
            logits.data_ptr(),
            rows.buffer_info()[0],
            len(which),
            None if mask is None else mask.data_ptr(),
        )
        if status:
            raise RuntimeError(f"the core refused to draw for {len(which)} rows (status {status})")
        return called.drawn.tolist(), called.logs.tolist()

    def _call(
        self, cursors: Sequence[Cursor], feed: Sequence[int], counts: Counts | None, steps: int, room: int
    ) -> _Called:
        if len(self._settled) != len(cursors):
            raise ValueError(f"{len(cursors)} rows, but `settle` was called for {len(self._settled)}")
        flat = array("q", [number for cursor in cursors for number in cursor])
        fed = array("q", feed)
        drawn, logs = array("q", bytes(8 * room)), array("d", bytes(8 * room))
        course = _Course(
            ctypes.addressof(self._packed),
            flat.buffer_info()[0],
            fed.buffer_info()[0],
            None if counts is None else counts.prompt.data_ptr(),
            None if counts is None else counts.text.data_ptr(),
            len(cursors),
            steps,
            drawn.buffer_info()[0],
            logs.buffer_info()[0],
        )
        return _Called(course, (self._packed, flat, fed), drawn, logs)
