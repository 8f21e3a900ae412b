"""Which runtime a model gets, and what is said when that is another one than was hoped for."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy import models_file
from deploy.models_file import loads
from inkwell.bundle import load_bundle
from inkwell.errors import BundleError, RuntimeUnavailable
from inkwell.models import build_model
from inkwell.models.gpt import GPTDecoder
from inkwell.native import build
from inkwell.native.decoders import NativeGPTDecoder
from inkwell.native.settings import NativeSettings
from inkwell.onnx.gpt import OnnxGPTDecoder
from inkwell.runtimes import AUTO, RUNTIMES, make_decoder
from inkwell.session import TextEngine

SCHEME = RUNTIMES["native"].scheme
PASSED = {"native": {"passed": True, "scheme": SCHEME, "kl": 0.001}}


def tiny() -> Any:
    settings = {"architecture": "gpt", "vocabulary": 9, "heads": 1, "width": 4, "layers": 1, "window": 4}
    return build_model(settings).eval()


@pytest.fixture(scope="module")
def native(native_cache: Path) -> None:
    """The core, compiled into a cache of the tests' own."""
    try:
        make_decoder(tiny(), "native")
    except RuntimeUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INKWELL_NATIVE_COMPILER", "no-such-compiler")
    monkeypatch.setenv("INKWELL_NATIVE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("INKWELL_NATIVE_LIBRARY", raising=False)


@pytest.fixture
def onnx() -> None:
    for name in ("onnx", "onnxruntime"):
        pytest.importorskip(name)


@pytest.fixture(params=["onnx", "onnxruntime"])
def no_onnx(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A machine where one of the two packages is not installed."""
    monkeypatch.setitem(sys.modules, request.param, None)
    return str(request.param)


def test_auto_is_native_where_its_loss_passed(native: None) -> None:
    decoder, name = make_decoder(tiny(), "auto", PASSED)
    assert (type(decoder), name) == (NativeGPTDecoder, "native")


@pytest.mark.parametrize(
    "verdict",
    [
        None,
        {},
        {"native": {"passed": False, "scheme": SCHEME}},
        {"native": {"passed": True, "scheme": -1}},
        {"native": {"passed": "yes", "scheme": SCHEME}},
        {"native": True},
    ],
)
def test_auto_is_torch_without_a_verdict_of_this_scheme(native: None, verdict: Any) -> None:
    decoder, name = make_decoder(tiny(), "auto", verdict)
    assert (type(decoder), name) == (GPTDecoder, "torch")


def test_a_runtime_that_is_named_needs_no_verdict(native: None) -> None:
    assert make_decoder(tiny(), "native")[1] == "native"
    assert make_decoder(tiny(), "torch", PASSED)[1] == "torch"


def test_auto_without_a_compiler_and_a_library_is_torch_and_says_why(
    no_compiler: None, no_onnx: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert make_decoder(tiny(), "auto", PASSED)[1] == "torch"
    assert "runtime native cannot run here, the next one is taken: there is no C++ compiler" in caplog.text
    assert "onnx" not in caplog.text  # nobody has to want it


@pytest.mark.parametrize("verdict", [None, PASSED, {"native": {"passed": False, "scheme": SCHEME}}])
def test_auto_without_a_compiler_is_onnx_where_it_is_installed(
    no_compiler: None, onnx: None, verdict: Any
) -> None:
    decoder, name = make_decoder(tiny(), "auto", verdict)
    assert (type(decoder), name) == (OnnxGPTDecoder, "onnx")


def test_a_core_that_is_there_already_needs_no_compiler(
    native: None, native_cache: Path, onnx: None, no_compiler: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = build.build(NativeSettings(None, native_cache, None, None))
    monkeypatch.setenv("INKWELL_NATIVE_LIBRARY", str(library))
    assert make_decoder(tiny(), "auto", None)[1] == "torch"


def test_onnx_can_be_named_anywhere(native: None, onnx: None) -> None:
    assert make_decoder(tiny(), "onnx", PASSED)[1] == "onnx"
    assert loads('[models.a]\nfamily = "x"\nruntime = "onnx"').models["a"].runtime == "onnx"


def test_the_models_file_knows_the_runtimes_that_there_are() -> None:
    assert sorted(models_file.RUNTIMES) == sorted((AUTO, *RUNTIMES))


def test_onnx_that_is_not_installed_is_an_error_that_says_how_to(no_onnx: str) -> None:
    with pytest.raises(
        RuntimeUnavailable,
        match=rf"runtime 'onnx' cannot run here: {no_onnx} is not installed; pip install 'inkwell\[onnx\]'",
    ):
        make_decoder(tiny(), "onnx")


def test_onnx_says_which_families_and_devices_it_knows(no_compiler: None, onnx: None) -> None:
    model = build_model({"architecture": "window", "vocabulary": 9, "window": 3}).eval()
    with pytest.raises(RuntimeUnavailable, match="RecurrentModel, GPTModel, not WindowModel"):
        make_decoder(model, "onnx")
    assert make_decoder(model, "auto", PASSED)[1] == "torch"
    with pytest.raises(RuntimeUnavailable, match="it runs on a CPU, and the model is on meta"):
        make_decoder(tiny().to("meta"), "onnx")


def test_native_without_a_compiler_is_an_error_that_says_why(no_compiler: None) -> None:
    with pytest.raises(
        RuntimeUnavailable, match=r"runtime 'native' cannot run here: there is no C\+\+ compiler"
    ):
        make_decoder(tiny(), "native")


def test_a_family_that_the_core_does_not_know_stays_with_torch(native: None) -> None:
    model = build_model({"architecture": "window", "vocabulary": 9, "window": 3}).eval()
    with pytest.raises(RuntimeUnavailable, match="RecurrentModel, GPTModel, not WindowModel"):
        make_decoder(model, "native")
    assert make_decoder(model, "auto", PASSED)[1] == "torch"


def test_an_unknown_runtime_is_refused_by_name() -> None:
    with pytest.raises(RuntimeUnavailable, match="runtime is 'fast'; allowed are auto, native, onnx, torch"):
        make_decoder(tiny(), "fast")


def test_an_unknown_path_is_refused_by_name(native: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INKWELL_NATIVE_PATH", "mmx")
    with pytest.raises(RuntimeUnavailable, match="INKWELL_NATIVE_PATH is 'mmx'"):
        make_decoder(tiny(), "native")


def text(engine: TextEngine, **job: Any) -> str:
    return list(engine.generate({"seed": 5, "max_new_tokens": 40, **job}))[-1]["text"]


def test_a_bundles_verdict_is_kept_and_followed(native: None, char_bundle: Path, tmp_path: Path) -> None:
    plain, passed = Path(shutil.copytree(char_bundle, tmp_path / "plain")), tmp_path / "passed"
    bundle = load_bundle(plain)
    bundle.runtimes = PASSED
    bundle.save(passed)
    by_torch, by_native = TextEngine(load_bundle(plain), slots=2), TextEngine(load_bundle(passed), slots=2)
    assert (by_torch.runtime, by_native.runtime) == ("torch", "native")
    assert by_native.describe()["runtime"] == "native"
    assert by_native.describe()["runtimes"] == PASSED
    named = TextEngine(load_bundle(plain), slots=64, runtime="native")
    assert text(by_native) == text(named)


def test_a_text_is_written_alike_with_and_without_a_break(native: None, gpt_bundle: Path) -> None:
    engine = TextEngine(load_bundle(gpt_bundle), slots=4, runtime="native")
    job = {"prompt": "The", "category": "elf", "temperature": 1.2}
    whole = list(engine.generate({"seed": 3, "max_new_tokens": 60, **job}))
    ids = [token for event in whole if event["event"] == "tokens" for token in event["ids"]]
    assert len(ids) > 5
    rest = list(engine.generate({"seed": 3, "max_new_tokens": 60, **job, "resume_ids": ids[:5]}))
    assert rest[-1]["text"] == whole[-1]["text"]


def test_damaged_verdicts_are_named(char_bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(char_bundle, tmp_path / "prose"))
    (folder / "runtimes.json").write_text("[]")
    with pytest.raises(BundleError, match=r"runtimes\.json must hold an object"):
        load_bundle(folder)
