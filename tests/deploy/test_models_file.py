from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy import models_file
from deploy.models_file import ModelsFileError, chosen, dumps, loads

SHIPPED = Path(models_file.__file__).parent / "models.toml"


def test_shipped_file_serves_five_models_with_prose_as_default() -> None:
    shipped = models_file.load(SHIPPED)
    assert list(shipped.models) == ["prose", "names", "souls", "stories", "chars"]
    assert shipped.default_model == "prose"
    assert shipped.models["names"].archive == "names.mar"
    assert shipped.models["names"].max_new_tokens == 64
    assert shipped.models["souls"].queue_tokens == 40_000


def test_own_values_go_before_defaults_and_defaults_before_built_in_ones() -> None:
    parsed = loads('[defaults]\nslots = 8\nthreads = 2\n[models.a]\nfamily = "x"\nthreads = 4')
    assert (parsed.models["a"].slots, parsed.models["a"].threads) == (8, 4)
    assert parsed.models["a"].replicas == 1


def test_first_model_is_default_when_none_is_marked() -> None:
    assert loads('[models.b]\nfamily = "x"\n[models.a]\nfamily = "x"').default_model == "b"


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("gpu = 1", "models.a.gpu: unknown key (did you mean gpus?)"),
        ("gpus = 1.5", "models.a.gpus = 1.5"),
        ("gpus = -1", "models.a.gpus = -1"),
        ("gpus = nan", "models.a.gpus = nan"),
        ("gpus = true", "models.a.gpus = True"),
        ('gpus = "1"', "models.a.gpus = '1'"),
        ("slots = 0", "models.a.slots = 0: must be a whole number from 1 to 4096"),
        ("slots = 2.0", "models.a.slots = 2.0"),
        ("slots = true", "models.a.slots = True"),
        ("default = 1", "models.a.default = 1: must be true or false"),
        ('archive = "../a.mar"', "models.a.archive = '../a.mar'"),
        ('archive = "a.zip"', "models.a.archive = 'a.zip'"),
        ('runtime = "fast"', "models.a.runtime = 'fast': must be one of auto, torch"),
        ("cpu_workers = 0", "nowhere to run"),
        ("queue_tokens = 100", "models.a.queue_tokens = 100: must be at least max_new_tokens (2000)"),
        ("memory_mb = 0", "models.a.memory_mb = 0"),
    ],
)
def test_bad_value_is_refused_with_field_and_value(line: str, named: str) -> None:
    with pytest.raises(ModelsFileError) as refused:
        loads(f'[models.a]\nfamily = "x"\n{line}', source="here.toml")
    assert str(refused.value).startswith("here.toml: ")
    assert named in str(refused.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "at least one"),
        ("[models.a]\n", "models.a.family: is required"),
        ('[models.A]\nfamily = "x"', "'A'"),
        ("models = 3", "models = 3: must be a table"),
        ("[models]\na = 3", "models.a = 3: must be a table"),
        ("[defaults]\nfamily = 'x'\n[models.a]\nfamily='x'", "defaults.family: unknown key"),
        ("[server]\n", "server: unknown key"),
        ("= 3", "not valid TOML"),
        ('[models.a]\nfamily="x"\ndefault=true\n[models.b]\nfamily="x"\ndefault=true', "at most one"),
        ('[models.a]\nfamily="x"\n[models.b]\nfamily="x"\narchive="a.mar"', "belongs to models.a"),
    ],
)
def test_bad_file_is_refused_as_a_whole(text: str, named: str) -> None:
    with pytest.raises(ModelsFileError, match=r"models\.toml") as refused:
        loads(text)
    assert named in str(refused.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelsFileError, match="no such models file"):
        models_file.load(tmp_path / "none.toml")


def test_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelsFileError, match="cannot be read"):
        models_file.load(tmp_path / "m.toml")


@given(
    gpus=st.one_of(st.integers(0, 64), st.floats(0.001, 0.999)),
    slots=st.integers(1, 4096),
    memory=st.none() | st.integers(1, 100_000),
    default=st.integers(0, 2),
)
def test_dumped_models_read_back_the_same(gpus: float, slots: int, memory: int | None, default: int) -> None:
    first = loads('[models.a]\nfamily="x"\n[models.b]\nfamily="y"\n[models.c]\nfamily="z"')
    models = {
        name: dataclasses.replace(entry, gpus=gpus, slots=slots, memory_mb=memory, default=number == default)
        for number, (name, entry) in enumerate(first.models.items())
    }
    changed = models_file.ModelsFile(models, list(models)[default])
    assert loads(dumps(changed)) == changed


def test_choice_keeps_order_and_finds_a_default() -> None:
    shipped = models_file.load(SHIPPED)
    some = chosen(shipped, ["names", "prose"])
    assert (list(some.models), some.default_model) == (["prose", "names"], "prose")
    other = chosen(shipped, ["souls"])
    assert other.default_model == "souls"
    assert loads(dumps(other)).default_model == "souls"


@pytest.mark.parametrize("names", [["prose", "nose"], []])
def test_choice_of_unknown_or_no_models_is_refused(names: list[str]) -> None:
    with pytest.raises(ModelsFileError):
        chosen(models_file.load(SHIPPED), names)
