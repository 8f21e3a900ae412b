"""Learning from teachers: the right predictions for the right rows, texts drawn as the teachers would write them,
and a student that comes to agree with them."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from inkwell.models import IGNORE
from inkwell.tokenizer import END_ID
from training.batches import Batch, DocumentWindows, Share
from training.errors import UserError
from training.loop import Trainer
from training.produce import produce
from training.recipe import load_recipe
from training.teachers import Interleaved, Teachers, distillation_loss

from . import toys

HERE = Path(__file__).parent
CPU = torch.device("cpu")
SMALL = {"architecture": "recurrent", "vocabulary": 4, "cell": "gru", "hidden": 6, "layers": 1}


def models(settings: dict[str, Any], count: int) -> list[Any]:
    """Untrained models made loud, so that each predicts something else."""
    made = [toys.model_of(settings, seed).eval() for seed in range(count)]
    for model in made:
        nn.init.normal_(model.head.weight, std=1.5)
    return made


def random_of(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# The loss


def test_certain_teachers_give_the_loss_against_the_text() -> None:
    logits, targets = torch.randn(3, 5, 7), torch.randint(7, (3, 5))
    targets[1, 3:] = IGNORE
    certain = nn.functional.one_hot(targets.clamp(min=0), 7).float()
    expected = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE)
    assert float(distillation_loss(logits, certain, targets)) == pytest.approx(float(expected), rel=1e-6)


def test_the_loss_is_least_where_student_and_teachers_agree() -> None:
    wanted = torch.randn(2, 4, 6).softmax(-1)
    targets = torch.zeros(2, 4, dtype=torch.int64)
    logits = wanted.log().requires_grad_()
    loss = distillation_loss(logits, wanted, targets)
    (slope,) = torch.autograd.grad(loss, logits)
    assert float(slope.abs().max()) < 1e-7
    entropy = -(wanted * wanted.log()).sum(-1).mean()
    least = float(loss.detach())
    assert least == pytest.approx(float(entropy), rel=1e-6)
    elsewhere = distillation_loss(logits.detach() + torch.randn(2, 4, 6), wanted, targets)
    assert float(elsewhere) > least + 0.01


# Predictions


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_each_row_is_taught_by_its_own_teacher(count: int) -> None:
    made = models(toys.GPT, count)
    ids, condition = torch.randint(toys.V, (5, 8)), torch.tensor([0, 1, 2, 1, 0])
    found, _ = Teachers(made, CPU).predict(ids, condition, None)
    for row in range(5):
        with torch.no_grad():
            logits = made[row % count](ids[row : row + 1], condition=condition[row : row + 1]).logits[0]
        torch.testing.assert_close(found[row], logits.softmax(-1), rtol=1e-5, atol=1e-6)


def test_teachers_remember_what_came_before_as_the_student_does() -> None:
    made = models(toys.LSTM, 2)
    teachers, ids = Teachers(made, CPU), torch.randint(toys.V, (3, 12))
    first, carry = teachers.predict(ids[:, :5], None, None)
    second, _ = teachers.predict(ids[:, 5:], None, carry)
    with torch.no_grad():
        for row in range(3):
            whole = made[row % 2](ids[row : row + 1]).logits[0].softmax(-1)
            torch.testing.assert_close(torch.cat([first[row], second[row]]), whole, rtol=1e-5, atol=1e-6)


def test_teachers_themselves_learn_nothing() -> None:
    made = models(toys.LSTM, 2)
    made[0].train()
    found, _ = Teachers(made, CPU).predict(torch.randint(toys.V, (4, 5)), None, None)
    assert not found.requires_grad
    assert not any(parameter.requires_grad for model in made for parameter in model.parameters())
    assert not any(model.training for model in made)


# Texts that they write


def test_texts_are_drawn_as_likely_as_the_teachers_say() -> None:
    """Every text of up to three tokens over three characters, counted against its probability."""
    made = models(SMALL, 2)
    batch = Teachers(made, CPU).write(12_000, 3, None, random_of())
    for teacher, model in enumerate(made):
        targets = batch.targets[teacher::2].tolist()
        seen = Counter(tuple(t for t in row if t != IGNORE) for row in targets)
        texts = torch.cartesian_prod(*[torch.arange(4)] * 3)
        for text in {cut(tuple(row)) for row in texts.tolist()}:
            with torch.no_grad():
                logs = model(torch.tensor([[END_ID, *text[:-1]]])).logits[0].log_softmax(-1)
            chance = math.exp(sum(float(logs[place, token]) for place, token in enumerate(text)))
            spread = math.sqrt(chance * (1 - chance) / len(targets))
            assert seen[text] / len(targets) == pytest.approx(chance, abs=5 * spread + 1e-4), text
        assert sum(seen.values()) == len(targets)


def cut(text: tuple[int, ...]) -> tuple[int, ...]:
    """To the first end mark, which belongs to it."""
    return text[: text.index(END_ID) + 1] if END_ID in text else text


def test_a_written_batch_is_shaped_like_one_of_documents() -> None:
    batch = Teachers(models(SMALL, 3), CPU).write(64, 9, None, random_of())
    assert batch.goes_on is False
    for ids, targets in zip(batch.ids.tolist(), batch.targets.tolist(), strict=True):
        counted = [t for t in targets if t != IGNORE]
        assert ids[: len(counted)] == [END_ID, *counted[:-1]]
        assert counted.count(END_ID) == (counted[-1] == END_ID)
        assert len(counted) == 9 or counted[-1] == END_ID
        assert all(t == IGNORE for t in targets[len(counted) :])
        assert all(t == END_ID for t in ids[len(counted) + 1 :])
    assert max(sum(t != IGNORE for t in row) for row in batch.targets.tolist()) == batch.ids.shape[1]


def test_texts_are_written_for_their_category() -> None:
    (model,) = models(toys.GPT, 1)
    with torch.no_grad():
        model.category.weight.mul_(8)
    conditions = torch.arange(3).repeat(900)
    batch = Teachers([model], CPU).write(len(conditions), 1, conditions, random_of())
    for category in range(3):
        with torch.no_grad():
            wanted = (
                model(torch.tensor([[END_ID]]), condition=torch.tensor([category])).logits[0, 0].softmax(-1)
            )
        drawn = torch.bincount(batch.targets[category::3, 0], minlength=toys.V) / 900
        assert float((drawn - wanted).abs().max()) < 0.09
    assert batch.condition is conditions


def test_fewer_rows_than_teachers_are_no_trouble() -> None:
    teachers = Teachers(models(SMALL, 5), CPU)
    assert teachers.write(2, 4, None, random_of()).ids.shape[0] == 2
    assert teachers.predict(torch.zeros(2, 3, dtype=torch.int64), None, None)[0].shape == (2, 3, 4)


def interleaved(seed: int = 1, share: Share | None = None) -> Interleaved:
    texts = [[1, 2, 3], [2, 3], [3], [1, 1, 1, 1], [2]]
    source = DocumentWindows(texts, None, 2, 8, seed)
    return Interleaved(source, Teachers(models(SMALL, 2), CPU), 2, 8, seed, share or Share())


def same(one: list[Batch], other: list[Batch]) -> bool:
    return all(torch.equal(a.ids, b.ids) for a, b in zip(one, other, strict=True))


def test_written_batches_stand_between_those_of_the_corpus() -> None:
    batches = list(interleaved().epoch(0))
    plain = list(DocumentWindows([[1, 2, 3], [2, 3], [3], [1, 1, 1, 1], [2]], None, 2, 8, 1).epoch(0))
    assert len(batches) == interleaved().batches == 9
    assert same(batches[::3], plain)
    assert [len(batch.ids) for batch in batches] == [len(p.ids) for p in plain for _ in range(3)]


def test_written_batches_follow_from_seed_epoch_and_process() -> None:
    written = [batch for index, batch in enumerate(interleaved().epoch(0)) if index % 3]
    again = [batch for index, batch in enumerate(interleaved().epoch(0)) if index % 3]
    assert same(written, again)
    shapes = {tuple(map(tuple, batch.ids.tolist())) for batch in written}
    others = [interleaved().epoch(1), interleaved(seed=2).epoch(0), interleaved(share=Share(1, 2)).epoch(0)]
    for other in others:
        found = {tuple(map(tuple, b.ids.tolist())) for index, b in enumerate(other) if index % 3}
        assert found != shapes
    assert len(shapes) > 3


# Students


def test_a_student_comes_to_agree_with_its_teacher() -> None:
    (teacher,) = models({**toys.LSTM, "hidden": 8, "layers": 1}, 1)
    nn.init.normal_(teacher.head.weight, std=5.0)
    student = toys.model_of({**toys.LSTM, "hidden": 32, "layers": 1}, 9)
    fit = toys.fit_of(steps=400, batch=16, rate=2e-2, distill=1.0, evaluate_every=100)
    ids = torch.from_numpy(toys.stream_ids(384, seed=3)).view(32, 12)

    def distance() -> float:
        with torch.no_grad():
            wanted = teacher(ids).logits.log_softmax(-1)
            found = student(ids).logits.log_softmax(-1)
        return float((wanted.exp() * (wanted - found)).sum(-1).mean())

    before = distance()
    Trainer(student, fit, toys.source_of("stream", fit), None, teachers=Teachers([teacher], CPU)).run()
    assert before > 0.2
    assert distance() < before / 3


def test_without_a_share_of_the_loss_teachers_change_nothing() -> None:
    def trained(teachers: Teachers | None) -> dict[str, torch.Tensor]:
        fit = toys.fit_of(distill=0.0)
        model = toys.model_of(toys.LSTM)
        Trainer(model, fit, toys.source_of("stream", fit), None, teachers=teachers).run()
        return {name: p.detach() for name, p in model.named_parameters()}

    alone, taught = trained(None), trained(Teachers(models(toys.LSTM, 2), CPU))
    assert all(torch.equal(value, taught[name]) for name, value in alone.items())


@pytest.mark.parametrize("kind", ["stream", "documents"])
def test_a_resumed_student_ends_with_the_same_bits(kind: str, tmp_path: Path) -> None:
    settings = toys.LSTM if kind == "stream" else toys.GPT
    fit = toys.fit_of(steps=13, length=8, fresh=0.2 if kind == "stream" else 0.0)

    def trainer(directory: Path, callback: Any = None) -> Trainer:
        teachers = Teachers(models(settings, 2), CPU)
        source = toys.source_of(kind, fit)
        if kind == "documents":
            source = Interleaved(source, teachers, 1, 8, 1, Share())
        return Trainer(
            toys.model_of(settings), fit, source, None, directory, callback=callback, teachers=teachers
        )

    whole = trainer(tmp_path / "whole")
    whole.run()
    with pytest.raises(toys.BrokenOffError):
        trainer(tmp_path / "broken", toys.stop_at_8).run()
    torch.rand(5)
    resumed = trainer(tmp_path / "broken")
    resumed.run(resume=True)
    for (name, one), (_, other) in zip(
        whole.model.named_parameters(), resumed.model.named_parameters(), strict=True
    ):
        assert torch.equal(one, other), name


# From a recipe


FIT = ["fit.steps=6", "fit.batch=8", "fit.length=16", "fit.evaluate_every=3", "fit.threads=1"]
TINY = [*FIT, "model.width=16", "model.heads=2", "model.layers=1"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    toys.write_names(tmp_path)
    (tmp_path / "prose.txt").write_text("The harbour lay quiet under the lantern. " * 40)
    return tmp_path


def make(folder: Path, name: str, changes: list[str], family: str = "names") -> Any:
    corpus = "names.csv" if family == "names" else "prose.txt"
    recipe = load_recipe(family, "small", [*changes, f"corpus={folder / corpus}"])
    return produce(recipe, folder / name, name, device="cpu", runs=folder / "runs" / name)


def test_a_bundle_learns_from_two_others_and_says_so(folder: Path) -> None:
    make(folder, "one", TINY)
    make(folder, "two", [*TINY, "fit.seed=2"])
    teachers = f'fit.teachers=["{folder / "one"}", "{folder / "two"}"]'
    student = make(folder, "student", [*TINY, "model.layers=2", teachers, "fit.written=2"])
    assert student.categories == ("elf", "ork")
    assert student.config.model["layers"] == 2
    assert not any("held out" in warning for warning in student.metrics["training"]["warnings"])
    assert f"{folder / 'one'}, {folder / 'two'}" in student.card


def test_a_teacher_that_may_have_read_the_answers_is_named(folder: Path) -> None:
    make(folder, "one", TINY)
    teachers = f'fit.teachers=["{folder / "one"}"]'
    student = make(folder, "student", [*TINY, teachers, "split.seed=7"])
    assert any(
        "'one'" in warning and "held out" in warning for warning in student.metrics["training"]["warnings"]
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (['fit.teachers=["nowhere"]'], "fit.teachers: 'nowhere' is not a bundle directory"),
        (["fit.written=1"], "fit.written is 1, and nobody is there to write; name a --teacher"),
        (["fit.distill=1.5"], "distill is 1.5; allowed is 0 to 1"),
    ],
)
def test_wrong_teaching_is_named(folder: Path, changes: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(folder, "student", [*TINY, *changes])


def test_teachers_must_read_the_same_tokens_and_see_the_window(folder: Path) -> None:
    make(folder, "one", TINY)
    (folder / "names.csv").write_text("name,category\nXyq,elf\nYqx,ork\n" * 6 + "Qzz,elf\nZyx,ork\nXzy,elf\n")
    make(folder, "other", TINY)
    both = f'fit.teachers=["{folder / "one"}", "{folder / "other"}"]'
    with pytest.raises(UserError, match=r"other' reads other tokens or categories than 'one'"):
        make(folder, "student", [*TINY, both])
    one = f'fit.teachers=["{folder / "one"}"]'
    with pytest.raises(UserError, match=r"sees 32 tokens; fit.length is 40 and must not be more"):
        make(folder, "student", [*TINY, one, "fit.length=40", "model.window=40"])


def test_teachers_and_student_both_have_categories_or_neither(folder: Path) -> None:
    make(folder, "steered", TINY)
    make(folder, "plain", [*TINY, "model.categories=0"])
    for teacher, changes, message in (
        ("steered", ["model.categories=0"], r"'\S+steered' has categories and the student has none"),
        ("plain", [], r"the student has categories and '\S+plain' has none"),
    ):
        with pytest.raises(UserError, match=message):
            make(folder, "student", [*TINY, *changes, f'fit.teachers=["{folder / teacher}"]'])


def test_streams_are_not_written_and_numpy_does_not_listen(folder: Path) -> None:
    prose = [*FIT, "model.hidden=12", "model.layers=1"]
    make(folder, "prose", prose, "prose")
    teachers = f'fit.teachers=["{folder / "prose"}"]'
    student = make(folder, "student", [*prose, teachers], "prose")
    assert student.metrics["training"]["steps"] == 6
    with pytest.raises(UserError, match=r"fit\.written is 1; teachers write documents only"):
        make(folder, "other", [*prose, teachers, "fit.written=1"], "prose")
    recipe = load_recipe("chars", "small", [teachers, f"corpus={folder / 'prose.txt'}"])
    with pytest.raises(UserError, match=r"NumPy learns from text alone"):
        produce(replace(recipe), folder / "chars", "chars", device="cpu", runs=folder / "runs" / "chars")
