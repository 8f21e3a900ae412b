"""Properties of plans over thousands of machines, and against every possible placement on small ones."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from deploy.board import WHOLE, Demand, Device, new_seats, quality, usable
from deploy.inventory import Gpu, Inventory
from deploy.models_file import ModelsFile, loads
from deploy.placement import place
from deploy.plan import Plan, plan

fraction = st.sampled_from([0.1, 0.2, 0.25, 0.3, 0.5, 0.6, 0.75, 0.9])
wish = st.tuples(
    st.one_of(st.just(0), fraction, st.integers(1, 4)),
    st.integers(1, 3),
    st.sampled_from([500, 2_000, 9_000, 30_000]),
)
wishes = st.lists(wish, min_size=1, max_size=8)
memories = st.lists(st.sampled_from([8_000, 24_000, 80_000]), min_size=0, max_size=8)


def file_of(asked: Sequence[tuple[float, int, int]]) -> ModelsFile:
    return loads(
        "\n".join(
            f'[models.m{n}]\nfamily = "x"\ngpus = {gpus}\nworkers_per_gpu = {workers}\nmemory_mb = {memory}'
            for n, (gpus, workers, memory) in enumerate(asked)
        )
    )


def machine_of(sizes: Sequence[int]) -> Inventory:
    return Inventory(tuple(Gpu(n, size, uuid=f"GPU-{n}") for n, size in enumerate(sizes)), cpus=8)


def held(made: Plan) -> dict[str, tuple[str, ...]]:
    return {name: placement.devices for name, placement in made.placements.items()}


def check(made: Plan, wanted: ModelsFile, machine: Inventory) -> None:
    """Nothing lost, nothing oversubscribed, nothing beyond what was asked."""
    assert list(made.placements) == list(wanted.models)
    for gpu in machine.gpus:
        here = made.on_gpu(gpu.identity)
        assert sum(round(placement.share * WHOLE) for placement in here) <= WHOLE
        memory = sum(p.workers // len(p.devices) * p.memory_mb for p in here)
        assert memory <= usable(gpu)
    for name, placement in made.placements.items():
        entry = wanted.models[name]
        assert placement.workers >= 1
        assert len(set(placement.device_ids)) == len(placement.device_ids) == len(placement.devices)
        if placement.device == "cpu":
            assert placement.device_ids == ()
            assert placement.workers == entry.cpu_workers
            if entry.gpus:
                assert any(warning.startswith(f"{name}: asks") for warning in made.warnings)
        else:
            assert 1 <= len(placement.device_ids) <= max(entry.gpus, 1)
            assert placement.workers <= entry.workers_per_gpu * len(placement.device_ids)
            assert {placement.device_of(w) for w in range(placement.workers)} == set(placement.device_ids)


@settings(max_examples=1500, deadline=None)
@given(wishes, memories)
def test_no_gpu_is_oversubscribed_and_no_model_lost(
    asked: list[tuple[float, int, int]], sizes: list[int]
) -> None:
    wanted, machine = file_of(asked), machine_of(sizes)
    made = plan(wanted, machine, {})
    check(made, wanted, machine)
    assert plan(wanted, machine, {}, made) == made
    assert Plan.from_json(made.to_json()) == made


@settings(max_examples=1500, deadline=None)
@given(wishes, memories, st.data())
def test_one_gpu_gone_moves_little(
    asked: list[tuple[float, int, int]], sizes: list[int], data: st.DataObject
) -> None:
    assume(sizes)
    wanted, machine = file_of(asked), machine_of(sizes)
    before = plan(wanted, machine, {})
    gone = data.draw(st.integers(0, len(sizes) - 1))
    rest = replace(machine, gpus=machine.gpus[:gone] + machine.gpus[gone + 1 :])
    after = plan(wanted, rest, {}, before)
    check(after, wanted, rest)

    lost = len(before.on_gpu(machine.gpus[gone].identity))
    moved = new_seats(held(after), held(before))
    event(f"moved {moved} for {lost} lost")
    if moved > lost:
        # More than the lost seats may only move when staying put would leave a model without any GPU, or
        # fewer GPUs in use.
        stay = {
            name: tuple(d for d in devices if d != machine.gpus[gone].identity)
            for name, devices in held(before).items()
        }
        seated = sum(bool(devices) for devices in held(after).values())
        used = sum(len(devices) for devices in held(after).values())
        assert (seated, used) > (
            sum(bool(devices) for devices in stay.values()),
            sum(len(devices) for devices in stay.values()),
        )
    if lost == 0:
        assert moved == 0


def every_placement(demands: Sequence[Demand], devices: Sequence[Device]) -> list[dict[str, list[str]]]:
    choices = [
        [c for k in range(d.count + 1) for c in itertools.combinations([v.identity for v in devices], k)]
        for d in demands
    ]
    found = []
    for combination in itertools.product(*choices):
        share = {v.identity: WHOLE for v in devices}
        memory = {v.identity: v.memory_mb for v in devices}
        for demand, taken in zip(demands, combination, strict=True):
            for identity in taken:
                share[identity] -= demand.share
                memory[identity] -= demand.memory_mb
        if min(share.values()) >= 0 and min(memory.values()) >= 0:
            found.append({d.model: list(t) for d, t in zip(demands, combination, strict=True)})
    return found


small_demand = st.tuples(
    st.sampled_from([200, 300, 500, 600, 1000]), st.integers(1, 2), st.sampled_from([1, 4, 6]), st.booleans()
)


def demands_of(asked: Sequence[tuple[int, int, int, bool]]) -> list[Demand]:
    return [
        Demand(f"m{n}", share, count if share == WHOLE else 1, memory, must, n == 0)
        for n, (share, count, memory, must) in enumerate(asked)
    ]


@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    st.lists(small_demand, min_size=1, max_size=4), st.lists(st.sampled_from([6, 10]), min_size=1, max_size=3)
)
def test_models_that_need_a_gpu_are_seated_whenever_that_is_possible(
    asked: list[tuple[int, int, int, bool]], sizes: list[int]
) -> None:
    demands = demands_of(asked)
    devices = [Device(f"d{n}", n, size) for n, size in enumerate(sizes)]
    best = max(quality(seats, demands)[0] for seats in every_placement(demands, devices))
    if best == sum(demand.must for demand in demands):
        assert quality(place(demands, devices, {}), demands)[0] == best


@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    st.lists(small_demand, min_size=1, max_size=4), st.lists(st.sampled_from([6, 10]), min_size=2, max_size=3)
)
def test_no_equally_good_placement_moves_less_when_a_gpu_is_gone(
    asked: list[tuple[int, int, int, bool]], sizes: list[int]
) -> None:
    demands = demands_of(asked)
    devices = [Device(f"d{n}", n, size) for n, size in enumerate(sizes)]
    before: Mapping[str, Sequence[str]] = place(demands, devices, {})
    after = place(demands, devices[:-1], before)
    reached = quality(after, demands)
    assume(reached[0] == sum(demand.must for demand in demands))  # else the plan is refused
    least = min(
        new_seats(seats, before)
        for seats in every_placement(demands, devices[:-1])
        if quality(seats, demands) >= reached
    )
    assert new_seats(after, before) == least
