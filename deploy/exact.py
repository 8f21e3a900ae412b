"""Exhaustive searches, within a fixed number of steps, for what the heuristics of `deploy.placement` miss."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from deploy.board import Board, Demand, Device, Quality, new_seats, quality

_STEPS = 20_000


class _OutOfSteps(Exception):  # noqa: N818 - a signal within this file
    pass


def search_musts(
    devices: Mapping[str, Device], demands: Mapping[str, Demand], musts: Sequence[Demand]
) -> Board | None:
    """One seat for each of `musts`; None: there is none, or the search gave up."""
    board = Board(devices, demands)
    ordered = sorted(musts, key=lambda demand: (-demand.share, -demand.memory_mb, demand.model))
    steps = 0

    def seat(position: int) -> bool:
        nonlocal steps
        if position == len(ordered):
            return True
        model = ordered[position].model
        tried: set[tuple[int, int]] = set()
        for device in devices:
            alike = (board.share[device], board.memory[device])
            if alike in tried or not board.fits(model, device):
                continue
            tried.add(alike)
            steps += 1
            if steps > _STEPS:
                return False
            board.sit(model, device)
            if seat(position + 1):
                return True
            board.leave(model, device)
        return False

    return board if seat(0) else None


def fewest_moves(start: Board, previous: Mapping[str, Sequence[str]]) -> Board:
    """A board as good as `start` with as few new seats as possible; `start` itself when none is better."""
    demands = list(start.demands.values())
    floor = quality(start.seats, demands)
    best, fewest = start, new_seats(start.seats, previous)
    board = Board(start.devices, start.demands)
    steps = 0

    def options(demand: Demand) -> Iterator[tuple[str, ...]]:
        had = previous.get(demand.model, ())
        open_to = [device for device in start.devices if board.fits(demand.model, device)]
        # Where it sits already comes first: those leaves of the search cost nothing.
        open_to.sort(key=lambda device: device not in had)
        for size in range(min(demand.count, len(open_to)), 0, -1):
            yield from itertools.combinations(open_to, size)
        yield ()

    def seat(position: int, moves: int) -> None:
        nonlocal best, fewest, steps
        steps += 1
        if steps > _STEPS:
            raise _OutOfSteps
        if moves >= fewest or not _reachable(board, demands[position:], floor):
            return
        if position == len(demands):
            best, fewest = board.copy(), moves
            return
        demand = demands[position]
        for taken in options(demand):
            for device in taken:
                board.sit(demand.model, device)
            seat(position + 1, moves + sum(device not in previous.get(demand.model, ()) for device in taken))
            for device in taken:
                board.leave(demand.model, device)

    try:
        seat(0, 0)
    except _OutOfSteps:
        return best
    return best


def _reachable(board: Board, remaining: Sequence[Demand], floor: Quality) -> bool:
    """Whether the board could still be as good as `floor` if each of `remaining` got all it asks for."""
    hoped = {model: list(held) for model, held in board.seats.items()}
    for demand in remaining:
        hoped[demand.model] = ["?"] * demand.count
    return quality(hoped, list(board.demands.values())) >= floor
