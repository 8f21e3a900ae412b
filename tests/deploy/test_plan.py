from __future__ import annotations

import itertools

import pytest
import yaml
from rich.console import Console

from deploy.board import usable
from deploy.inventory import Gpu, Inventory, described
from deploy.models_file import ModelsFile, loads
from deploy.plan import CUDA_CONTEXT_MB, TORCH_MB, Plan, PlanRefusedError, plan
from deploy.plan_views import explain, render_model_config


def models(**tables: str) -> ModelsFile:
    return loads("\n".join(f'[models.{name}]\nfamily = "x"\n{body}\n' for name, body in tables.items()))


def seats(made: Plan) -> dict[str, tuple[int, ...]]:
    return {name: placement.device_ids for name, placement in made.placements.items()}


def text_of(made: Plan) -> str:
    console = Console(width=140, record=True, file=None, quiet=True)
    console.quiet = False
    with console.capture() as captured:
        console.print(explain(made))
    return captured.get()


def test_two_halves_share_one_gpu_and_leave_the_other_free() -> None:
    made = plan(models(a="gpus = 0.5", b="gpus = 0.5"), described(2, "80G"), {})
    assert seats(made) == {"a": (0,), "b": (0,)}
    assert made.warnings == ()


def test_ten_tenths_fill_a_gpu_exactly_and_the_eleventh_goes_elsewhere() -> None:
    many = models(**{f"m{n}": "gpus = 0.1" for n in range(11)})
    counts = [list(seats(plan(many, described(2, "80G"), {})).values()).count((n,)) for n in (0, 1)]
    assert counts == [10, 1]


def test_whole_gpus_are_spread_and_not_shared() -> None:
    made = plan(models(a="gpus = 2", b="gpus = 1", c="gpus = 0.5"), described(4, "80G"), {})
    used = list(itertools.chain(*seats(made).values()))
    assert sorted(used) == [0, 1, 2, 3]
    assert made.placements["a"].workers == 2


def test_memory_keeps_fractions_apart() -> None:
    small = described(2, "4G")
    made = plan(models(a="gpus = 0.2", b="gpus = 0.2"), small, {"a": 3000, "b": 3000})
    assert seats(made) == {"a": (0,), "b": (1,)}


def test_fewer_gpus_than_asked_give_a_warning() -> None:
    made = plan(models(a="gpus = 4"), described(3, "80G"), {})
    assert seats(made) == {"a": (0, 1, 2)}
    assert made.warnings == ("a: asks for 4 GPUs and gets 3",)


def test_first_gpu_of_one_model_comes_before_the_second_of_another() -> None:
    made = plan(models(a="gpus = 2", b="gpus = 2"), described(2, "80G"), {})
    assert sorted(map(len, seats(made).values())) == [1, 1]


def test_model_without_room_goes_to_the_cpu_with_the_reason() -> None:
    made = plan(models(a="gpus = 1\ncpu_workers = 3", b="gpus = 1\ndefault = true"), described(1, "80G"), {})
    assert seats(made) == {"a": (), "b": (0,)}
    assert (made.placements["a"].device, made.placements["a"].workers) == ("cpu", 3)
    assert "a: asks for 1 GPU and none is left" in made.warnings[0]


def test_machine_without_gpus_serves_all_on_the_cpu_and_says_so() -> None:
    made = plan(models(a="gpus = 0.5", b=""), described(0, "1G"), {})
    assert [placement.device for placement in made.placements.values()] == ["cpu", "cpu"]
    assert made.warnings == ("a: asks for 0.5 GPU and this machine has none; it runs on the CPU",)


def test_model_larger_than_any_gpu_goes_to_the_cpu_with_both_numbers() -> None:
    made = plan(models(a="gpus = 1"), described(2, "8G"), {"a": 20_000})
    assert str(20_000 + CUDA_CONTEXT_MB) in made.warnings[0]
    assert str(usable(Gpu(0, 8192))) in made.warnings[0]


def test_workers_that_do_not_fit_beside_each_other_are_cut() -> None:
    made = plan(models(a="gpus = 2\nworkers_per_gpu = 4\nmemory_mb = 3000"), described(2, "8G"), {})
    assert made.placements["a"].workers == 4
    assert "only 2 of 3000 MiB fit" in made.warnings[0]


def test_file_memory_replaces_the_estimate() -> None:
    made = plan(models(a="memory_mb = 77", b=""), described(0, "1G"), {"a": 5, "b": 5})
    assert made.placements["a"].memory_mb == 77
    assert made.placements["b"].memory_mb == 5 + TORCH_MB


def test_impossible_is_refused_with_every_reason() -> None:
    wanted = models(a="gpus = 1\ncpu_workers = 0", b="gpus = 1\ncpu_workers = 0", c="")
    with pytest.raises(PlanRefusedError) as refused:
        plan(wanted, described(0, "1G"), {})
    assert [reason[0] for reason in refused.value.reasons] == ["a", "b"]
    with pytest.raises(PlanRefusedError, match="cpu_workers = 0 forbids the CPU"):
        plan(wanted, described(1, "80G"), {})
    assert sorted(seats(plan(wanted, described(2, "80G"), {})).values()) == [(), (0,), (1,)]


def test_model_that_needs_a_gpu_takes_it_from_one_that_does_not() -> None:
    before = plan(models(a="gpus = 1", b=""), described(1, "80G"), {})
    after = plan(models(a="gpus = 1", b="gpus = 1\ncpu_workers = 0"), described(1, "80G"), {}, before)
    assert seats(after) == {"a": (), "b": (0,)}


def test_packing_that_greed_misses_is_found_for_models_that_need_a_gpu() -> None:
    # Largest first puts 0.5 + 0.4 on one GPU; only 0.5 + 0.3 + 0.2 and 0.4 + 0.3 + 0.3 seat everyone.
    shares = (0.5, 0.4, 0.3, 0.3, 0.3, 0.2)
    wanted = models(**{f"m{n}": f"gpus = {s}\ncpu_workers = 0" for n, s in enumerate(shares)})
    made = plan(wanted, described(2, "80G"), {})
    assert all(placement.device == "gpu" for placement in made.placements.values())


def test_main_memory_limits_cpu_workers() -> None:
    machine = Inventory((), cpus=4, memory_mb=1000)
    made = plan(models(a="cpu_workers = 4\nmemory_mb = 300", b="memory_mb = 100"), machine, {})
    assert made.placements["a"].workers == 3
    assert "leaves room for 3" in made.warnings[0]
    with pytest.raises(PlanRefusedError, match="1000 MiB"):
        plan(models(a="memory_mb = 900", b="memory_mb = 200"), machine, {})


def test_threads_are_limited_to_cores() -> None:
    made = plan(models(a="threads = 16"), Inventory((), cpus=2), {})
    assert made.placements["a"].threads == 2
    assert "16 threads" in made.warnings[0]


def test_second_plan_on_the_same_machine_changes_nothing() -> None:
    wanted = models(a="gpus = 2", b="gpus = 0.5", c="gpus = 0.5", d="gpus = 1")
    first = plan(wanted, described(4, "80G"), {})
    assert plan(wanted, described(4, "80G"), {}, first) == first


def test_renumbered_gpus_keep_their_models_by_uuid() -> None:
    gpus = (Gpu(0, 80_000, uuid="A"), Gpu(1, 80_000, uuid="B"), Gpu(2, 80_000, uuid="C"))
    wanted = models(a="gpus = 1", b="gpus = 1", c="gpus = 1")
    before = plan(wanted, Inventory(gpus), {})
    lost = Inventory((Gpu(0, 80_000, uuid="B"), Gpu(1, 80_000, uuid="C")))
    after = plan(wanted, lost, {}, before)
    for name, placement in after.placements.items():
        assert placement.devices in (before.placements[name].devices, ())


def test_returning_gpu_brings_the_model_back_from_the_cpu() -> None:
    wanted = models(a="gpus = 1", b="gpus = 1")
    one = plan(wanted, described(1, "80G"), {})
    two = plan(wanted, described(2, "80G"), {}, one)
    assert sorted(seats(two).values()) == [(0,), (1,)]
    assert [n for n in "ab" if seats(one)[n]] == [n for n in "ab" if seats(two)[n] == (0,)]


def test_plan_reads_back_from_json_and_refuses_other_text() -> None:
    made = plan(models(a="gpus = 0.5", b=""), described(1, "80G"), {})
    assert Plan.from_json(made.to_json()) == made
    for text in ("", "[]", "{}", '{"format": 2}', '{"format": 1, "placements": 3}'):
        with pytest.raises(ValueError, match=r"."):
            Plan.from_json(text)


def test_table_explains_models_gpus_and_warnings() -> None:
    shown = text_of(plan(models(prose="gpus = 0.5", names="gpus = 9"), described(2, "80G"), {}))
    assert "prose" in shown
    assert "GPU 0" in shown
    assert "warning: names: asks for 9 GPUs and gets 1" in shown
    assert "share used" in shown


def test_model_config_says_one_worker_and_its_own_device() -> None:
    placement = plan(
        models(a="gpus = 2\nworkers_per_gpu = 2\nslots = 7"), described(2, "80G"), {}
    ).placements["a"]
    assert placement.workers == 4
    configs = [yaml.safe_load(render_model_config(placement, worker)) for worker in range(4)]
    assert [config["deviceIds"] for config in configs] == [[0], [0], [1], [1]]
    for config in configs:
        assert (config["minWorkers"], config["maxWorkers"], config["continuousBatching"]) == (1, 1, True)
        assert config["deviceType"] == "gpu"
        assert config["handler"] == {"slots": 7, "threads": 1, "max_new_tokens": 2000, "runtime": "auto"}


def test_model_config_for_the_cpu_names_no_device() -> None:
    config = yaml.safe_load(render_model_config(plan(models(a=""), described(2, "80G"), {}).placements["a"]))
    assert config["deviceType"] == "cpu"
    assert "deviceIds" not in config
    assert config["maxBatchDelay"] == 1
