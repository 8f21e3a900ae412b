"""Put models on GPUs: the search behind `deploy.plan`, without any words for people.

Rules, in order:

1. No GPU gives away more than its whole share or its usable memory.
2. Models that cannot run on a CPU are seated first, then the default model, then as many others as possible.
3. A model's first seat comes before another model's second; fractions are packed onto the fullest GPU that
   still has room, whole GPUs are taken empty.
4. Of equally good placements the one that loads the fewest models anew wins, so small changes move little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deploy.board import Board, Demand, Device, Quality, Seats, new_seats, quality
from deploy.exact import fewest_moves, search_musts


def place(
    demands: Sequence[Demand], devices: Sequence[Device], previous: Mapping[str, Sequence[str]]
) -> Seats:
    """Seats for `demands`: model -> identities of its devices, empty where it finds none.

    `previous` holds the seats that models have now; the answer stays as near to them as the rules allow.
    """
    by_name = {demand.model: demand for demand in demands}
    by_id = {device.identity: device for device in devices}
    kept = _keep(Board(by_id, by_name), demands, previous)
    candidates = [kept]
    for order in (_large_first, _small_first):
        fresh = _fill(Board(by_id, by_name), sorted(demands, key=order))
        candidates.append(_renamed(fresh, previous))
    musts = [demand for demand in demands if demand.must]
    if max(quality(board.seats, demands)[0] for board in candidates) < len(musts):
        found = search_musts(by_id, by_name, musts)
        if found is not None:
            candidates.append(_renamed(_fill(found, sorted(demands, key=_large_first)), previous))
    best = max(candidates, key=lambda board: _score(board, demands, previous))
    if new_seats(best.seats, previous) and previous:
        best = fewest_moves(best, previous)
    return {model: sorted(seats, key=lambda d: by_id[d].index) for model, seats in best.seats.items()}


def _score(
    board: Board, demands: Sequence[Demand], previous: Mapping[str, Sequence[str]]
) -> tuple[Quality, int]:
    return quality(board.seats, demands), -new_seats(board.seats, previous)


def _large_first(demand: Demand) -> tuple[object, ...]:
    return (not demand.must, not demand.default, -demand.share, -demand.memory_mb, demand.model)


def _small_first(demand: Demand) -> tuple[object, ...]:
    return (not demand.must, not demand.default, demand.share, demand.memory_mb, demand.model)


def _keep(board: Board, demands: Sequence[Demand], previous: Mapping[str, Sequence[str]]) -> Board:
    ordered = sorted(demands, key=_large_first)
    # First seats before second ones here too: a model that lost nothing must not lose its only seat.
    most = max((demand.count for demand in demands), default=0)
    for position in range(most):
        for demand in ordered:
            held = previous.get(demand.model, ())
            if position < len(held) and held[position] in board.devices:
                device = held[position]
                if board.fits(demand.model, device):
                    board.sit(demand.model, device)
    return _fill(board, ordered)


def _fill(board: Board, ordered: Sequence[Demand]) -> Board:
    """Seat everyone once where possible, making room where that is needed, then hand out what is left."""
    for demand in ordered:
        if board.seats[demand.model]:
            continue
        device = board.best_fit(demand.model)
        if device is not None:
            board.sit(demand.model, device)
        else:
            _take_extra(board, demand) or _move_aside(board, demand) or _displace(board, demand)
    while True:
        waiting = [d for d in ordered if board.seats[d.model] and len(board.seats[d.model]) < d.count]
        waiting.sort(key=lambda d: len(board.seats[d.model]))
        for demand in waiting:
            device = board.best_fit(demand.model)
            if device is not None:
                board.sit(demand.model, device)
                break
        else:
            return board


def _take_extra(board: Board, demand: Demand) -> bool:
    """Let a model with several GPUs give one up, the richest first."""
    owners = sorted(
        (m for m, s in board.seats.items() if len(s) > 1), key=lambda m: (-len(board.seats[m]), m)
    )
    for owner in owners:
        for device in reversed(board.seats[owner]):
            board.leave(owner, device)
            if board.fits(demand.model, device):
                board.sit(demand.model, device)
                return True
            board.sit(owner, device)
    return False


def _move_aside(board: Board, demand: Demand) -> bool:
    """Move the fewest other models off one device, each to another device with room."""
    options: list[tuple[int, int, list[tuple[str, str]], str]] = []
    for device in board.devices:
        moves = _evacuate(board, demand, device)
        if moves is not None:
            options.append((len(moves), board.devices[device].index, moves, device))
    if not options:
        return False
    _, _, moves, device = min(options)
    for model, target in moves:
        board.leave(model, device)
        board.sit(model, target)
    board.sit(demand.model, device)
    return True


def _evacuate(board: Board, demand: Demand, device: str) -> list[tuple[str, str]] | None:
    """Moves that would make room for `demand` on `device`; the board is left as it was."""
    others = [identity for identity in board.devices if identity != device]
    moves: list[tuple[str, str]] = []
    enough = False
    for model in sorted(board.occupants(device), key=lambda m: (board.demands[m].share, m)):
        board.leave(model, device)
        target = board.best_fit(model, others)
        if target is None:
            board.sit(model, device)
            continue
        board.sit(model, target)
        moves.append((model, target))
        if board.fits(demand.model, device):
            enough = True
            break
    for model, target in reversed(moves):
        board.leave(model, target)
        board.sit(model, device)
    return moves if enough else None


def _displace(board: Board, demand: Demand) -> bool:
    """Send less important models to the CPU: only for a model that has none, or for the default model."""
    options: list[tuple[list[tuple[bool, bool]], int, list[str], str]] = []
    for device in board.devices:
        gone: list[str] = []
        lesser = [m for m in board.occupants(device) if _rank(board.demands[m]) < _rank(demand)]
        for model in sorted(lesser, key=lambda m: (_rank(board.demands[m]), board.demands[m].share, m)):
            board.leave(model, device)
            gone.append(model)
            if board.fits(demand.model, device):
                ranks = sorted((_rank(board.demands[m]) for m in gone), reverse=True)
                options.append((ranks, board.devices[device].index, list(gone), device))
                break
        for model in reversed(gone):
            board.sit(model, device)
    if not options:
        return False
    _, _, losers, device = min(options)
    for model in losers:
        board.leave(model, device)
    board.sit(demand.model, device)
    return True


def _rank(demand: Demand) -> tuple[bool, bool]:
    return demand.must, demand.default


def _renamed(board: Board, previous: Mapping[str, Sequence[str]]) -> Board:
    """The same placement with equal GPUs exchanged so that as many models as possible stay where they are."""
    overlap = {
        (seat, device): sum(device in previous.get(model, ()) for model in board.occupants(seat))
        for seat in board.devices
        for device in board.devices
        if board.devices[seat].memory_mb == board.devices[device].memory_mb
    }
    pairs = sorted(
        overlap,
        key=lambda p: (-overlap[p], p[0] != p[1], board.devices[p[0]].index, board.devices[p[1]].index),
    )
    target: dict[str, str] = {}
    for seat, device in pairs:
        if seat not in target and device not in target.values():
            target[seat] = device
    renamed = Board(board.devices, board.demands)
    for model, held in board.seats.items():
        for seat in held:
            renamed.sit(model, target[seat])
    return renamed
