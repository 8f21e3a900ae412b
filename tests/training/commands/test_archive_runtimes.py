"""What int8 costs is measured when a model is archived, and decides what everybody computes with."""

from __future__ import annotations

import json
import math
import shutil
from typing import Any

import pytest
import torch

from inkwell.bundle import load_bundle, open_bundle
from inkwell.errors import RuntimeUnavailable
from inkwell.models import IGNORE
from inkwell.models.base import Decoder
from inkwell.native.library import open_library
from inkwell.runtimes import RUNTIMES
from inkwell.runtimes.base import Runtime
from inkwell.session import TextEngine
from training import rounding
from training.evaluation import recipe_of
from training.prepare import byte_count, prepare, windows


@pytest.fixture
def made(program, trained):
    """A folder of one's own with trained bundles that nobody has archived, and a models file."""
    shutil.copytree(trained.folder / "bundles", program.folder / "bundles")
    (program.folder / "bundles" / "prose" / "runtimes.json").unlink(missing_ok=True)
    file = program.folder / "models.toml"
    file.write_text('[models.prose]\nfamily = "prose"\n[models.names]\nfamily = "names"\n')
    program.environment["INKWELL_MODELS_FILE"] = str(file)
    return program


@pytest.fixture
def compiled(native_cache):
    try:
        open_library()
    except RuntimeUnavailable as error:
        pytest.skip(str(error))


def verdict(program, name="prose") -> dict[str, Any]:
    return json.loads((program.folder / "bundles" / name / "runtimes.json").read_text())["native"]


def test_the_loss_is_measured_printed_and_remembered_in_bundle_and_archive(compiled, made):
    out = made.succeed("archive").stdout
    for name in ("prose", "names"):
        found = verdict(made, name)
        assert found["passed"] is True
        assert found["scheme"] == RUNTIMES["native"].scheme
        assert found["limit"] == rounding.MOST_LOSS
        assert 0 < found["kl"] < 0.005
        assert abs(found["bits_per_byte_lost"]) < 0.01
        assert found["tokens"] >= 30
        assert f"{name}: native passes: {found['kl']:.5f} nats per token" in out
        assert open_bundle(made.folder / "model_store" / f"{name}.mar").runtimes["native"] == found


def test_what_was_measured_is_not_measured_again(compiled, made, monkeypatch):
    made.succeed("archive", "prose")
    monkeypatch.setattr(rounding, "measure", lambda *_: pytest.fail("measured again"))
    assert "measured before" in made.succeed("archive", "prose").stdout


def test_another_limit_is_another_verdict(compiled, made):
    made.succeed("archive", "prose")
    out = made.succeed("archive", "prose", "--max-loss", "0").stdout
    assert "native does not pass, float32 is kept" in out
    assert verdict(made)["passed"] is False
    assert TextEngine(load_bundle(made.folder / "bundles" / "prose"), slots=1).runtime == "torch"
    made.succeed("archive", "prose")
    assert verdict(made)["passed"] is True


def test_too_great_a_loss_is_refused_where_native_was_asked_for(compiled, made):
    error = made.fail(3, "archive", "prose", "--runtime", "native", "--max-loss", "0")
    assert "prose: runtime native would cost" in error
    assert "--max-loss is 0. Nothing was archived" in error
    assert not (made.folder / "model_store" / "prose.mar").exists()


def test_rounding_can_be_switched_off_and_on(compiled, made):
    out = made.succeed("archive", "prose", "--runtime", "torch").stdout
    assert "prose: float32; native is not used: archived with --runtime torch" in out
    for place in ("bundles/prose", "model_store/prose.mar"):
        assert TextEngine(open_bundle(made.folder / place), slots=1).runtime == "torch"
    made.succeed("archive", "prose", "--runtime", "native")
    for place in ("bundles/prose", "model_store/prose.mar"):
        assert TextEngine(open_bundle(made.folder / place), slots=1).runtime == "native"


def test_a_library_in_float32_can_be_named_and_the_program_computes_with_it(compiled, made):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    out = made.succeed("archive", "prose", "--runtime", "onnx").stdout
    assert "prose: float32; native is not used: archived with --runtime onnx" in out
    words = ("The", "--seed", 4, "--length", 40, "--runtime", "onnx")
    engine = TextEngine(open_bundle(made.folder / "model_store" / "prose.mar"), slots=1, runtime="onnx")
    *_, end = engine.generate({"prompt": "The", "seed": 4, "max_new_tokens": 40})
    assert made.succeed("generate", "prose", *words).stdout == f"The{end['text']}\n"


def test_bundle_archive_and_program_give_one_text(compiled, made, monkeypatch):
    made.succeed("archive", "prose")
    words = ("The", "--seed", 4, "--length", 80)
    by_bundle = made.succeed("generate", "prose", *words).stdout
    by_archive = made.succeed("generate", "model_store/prose.mar", *words).stdout
    engine = TextEngine(load_bundle(made.folder / "bundles" / "prose"), slots=1, runtime="native")
    *_, end = engine.generate({"prompt": "The", "seed": 4, "max_new_tokens": 80})
    assert by_bundle == by_archive == f"The{end['text']}\n"


def test_the_program_computes_with_what_the_models_file_names(compiled, made, monkeypatch):
    used = []
    for name, runtime in RUNTIMES.items():
        make = runtime.decoder
        monkeypatch.setattr(
            runtime, "decoder", lambda model, name=name, make=make: (used.append(name), make(model))[1]
        )
    made.succeed("archive", "prose")
    used.clear()
    made.succeed("generate", "prose", "The", "--seed", 1, "--length", 3)
    file = made.folder / "models.toml"
    file.write_text(file.read_text().replace('"prose"\n', '"prose"\nruntime = "torch"\n', 1))
    made.succeed("generate", "prose", "The", "--seed", 1, "--length", 3)
    made.succeed("generate", "prose", "The", "--seed", 1, "--length", 3, "--runtime", "native")
    assert used == ["native", "torch", "native"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--runtime", "fast"), "--runtime is 'fast'; allowed are auto, native, onnx, torch"),
        (("--max-loss", "-1"), "Invalid value for '--max-loss'"),
    ],
)
def test_bad_options_are_refused_by_name(made, words, message):
    assert message in made.fail(2, "archive", "prose", *words)


def test_without_held_out_text_float32_is_kept(compiled, made):
    folder = made.folder / "bundles" / "prose"
    config = json.loads((folder / "config.json").read_text())
    config["training"] = {}
    (folder / "config.json").write_text(json.dumps(config))
    out = made.succeed("archive", "prose").stdout
    assert "prose: float32; native is not used:" in out
    assert "has no training recipe, so its held-out text is unknown" in out
    assert TextEngine(open_bundle(made.folder / "model_store" / "prose.mar"), slots=1).runtime == "torch"
    error = made.fail(2, "archive", "prose", "--runtime", "native")
    assert "prose: what runtime native would cost cannot be measured" in error


def test_without_its_corpus_float32_is_kept(compiled, made):
    file = made.folder / "bundles" / "prose" / "config.json"
    config = json.loads(file.read_text())
    config["training"]["recipe"]["corpus"] = "gone.txt"
    file.write_text(json.dumps(config))
    assert "prose: float32; native is not used: corpus 'gone.txt'" in made.succeed("archive", "prose").stdout
    assert (made.folder / "model_store" / "prose.mar").is_file()


def test_another_text_under_its_corpus_name_does_not_count_as_held_out(compiled, made):
    file = made.folder / "prose.txt"
    file.write_text(file.read_text().replace("lantern", "beacon"))
    out = made.succeed("archive", "prose").stdout
    assert (
        "prose: float32; native is not used: corpus 'prose.txt' is not the text that it learned from" in out
    )


def test_without_a_compiler_float32_is_kept(made):
    made.environment["INKWELL_NATIVE_COMPILER"] = "no-such-compiler"
    out = made.succeed("archive", "prose").stdout
    assert "prose: float32; native is not used: there is no C++ compiler here" in out
    assert not (made.folder / "bundles" / "prose" / "runtimes.json").exists()


def test_evaluating_keeps_the_verdict(compiled, made):
    made.succeed("archive", "prose")
    before = verdict(made)
    made.succeed("evaluate", "prose", "--samples", "0")
    assert verdict(made) == before


class _Leaning(Decoder):
    """Another decoder whose logits of one token are higher than they should be."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.new_state, self.admit = decoder.new_state, decoder.admit  # type: ignore[method-assign]

    def new_state(self, rows: int) -> Any:
        raise NotImplementedError

    def step(self, tokens: Any, state: Any) -> Any:
        logits = self._decoder.step(tokens, state).clone()
        logits[:, 3] += 0.5
        return logits


class _LeaningRuntime(Runtime):
    name, scheme = "native", 1

    def decoder(self, model: Any) -> Decoder:
        return _Leaning(model.decoder())


@pytest.mark.parametrize("name", ["prose", "names"])
def test_the_figures_are_what_the_definitions_give(name, made, monkeypatch):
    monkeypatch.setitem(RUNTIMES, "native", _LeaningRuntime())
    bundle = load_bundle(made.folder / "bundles" / name)
    monkeypatch.chdir(made.folder)
    found = rounding.measure(bundle, "native", 1, 0.1, most=10**9)
    recipe = recipe_of(bundle)
    prepared = prepare(recipe, bundle.tokenizer, bundle.categories)
    held = prepared.splits.test or prepared.splits.val
    divergence, lost, tokens, carry = 0.0, 0.0, 0, None
    with torch.no_grad():
        for batch in windows(recipe, prepared, held, False).epoch(0):
            exact, _, carry = bundle.model(
                batch.ids, condition=batch.condition, carry=carry if batch.goes_on else None
            )
            leaning = exact.clone()
            leaning[..., 3] += 0.5
            p, q = exact.double().log_softmax(-1), leaning.double().log_softmax(-1)
            counts = batch.targets != IGNORE
            divergence += float((p.exp() * (p - q)).sum(-1)[counts].sum())
            wanted = batch.targets.clamp(min=0)[..., None]
            lost += float((p - q).gather(-1, wanted)[..., 0][counts].sum())
            tokens += int(counts.sum())
    assert found.tokens == tokens
    assert found.kl == pytest.approx(divergence / tokens, rel=1e-4)
    assert found.bits_per_byte_lost == pytest.approx(
        lost / math.log(2) / byte_count(held), rel=1e-4, abs=1e-6
    )
    assert found.passed is (found.kl <= 0.1)


def test_figures_of_a_part_are_about_those_of_the_whole(made, monkeypatch):
    monkeypatch.setitem(RUNTIMES, "native", _LeaningRuntime())
    bundle = load_bundle(made.folder / "bundles" / "prose")
    monkeypatch.chdir(made.folder)
    whole, part = (rounding.measure(bundle, "native", 1, 0.1, most) for most in (10**9, 30))
    assert 30 <= part.tokens < whole.tokens
    assert part.kl == pytest.approx(whole.kl, rel=0.5)
