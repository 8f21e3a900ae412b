"""Bundles on disk: there and back, and every kind of damage refused by name before anything is run."""

from __future__ import annotations

import json
import math
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from inkwell.bundle import FILES, load_bundle, open_bundle
from inkwell.errors import BundleError

BUNDLES = ["char_bundle", "bpe_bundle", "gpt_bundle"]


@pytest.fixture(params=BUNDLES)
def bundle_path(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


@pytest.fixture
def copy(gpt_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(gpt_bundle, tmp_path / "copy"))


def edit_config(path: Path, **changes: Any) -> None:
    values = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**values, **changes}))


def test_a_bundle_comes_back_as_it_was(bundle_path: Path, tmp_path: Path) -> None:
    first = load_bundle(bundle_path)
    first.save(tmp_path / "again")
    second = load_bundle(tmp_path / "again")
    assert second.config == first.config
    assert (second.words, second.categories, second.metrics, second.card) == (
        first.words,
        first.categories,
        first.metrics,
        first.card,
    )
    assert second.path == tmp_path / "again"
    ids = torch.arange(1, 9)[None]
    assert torch.equal(first.model(ids).logits, second.model(ids).logits)
    assert second.tokenizer.encode("The lantern") == first.tokenizer.encode("The lantern")
    assert not second.model.training
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (bundle_path / name).read_bytes()


def test_a_model_is_not_filled_with_random_numbers_before_its_weights_are_read(
    bundle_path: Path,
) -> None:
    before = torch.get_rng_state()
    load_bundle(bundle_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_saving_replaces_an_older_bundle_and_leaves_nothing_beside_it(
    char_bundle: Path, tmp_path: Path
) -> None:
    bundle = load_bundle(char_bundle)
    bundle.save(tmp_path / "deep" / "model")
    (tmp_path / "deep" / "model" / "stale.txt").write_text("old")
    bundle.save(tmp_path / "deep" / "model")
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["model"]
    assert not (tmp_path / "deep" / "model" / "stale.txt").exists()


@pytest.mark.parametrize("step", ["save_file", "_flush"])
def test_a_failure_in_the_middle_leaves_the_old_bundle_and_no_half_one(
    char_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    bundle = load_bundle(char_bundle)

    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(f"inkwell.bundle.{step}", fail)
        with pytest.raises(OSError, match="no space left"):
            bundle.save(tmp_path / "fresh")
        assert list(tmp_path.iterdir()) == []
    bundle.save(tmp_path / "model")
    before = {p.name: p.read_bytes() for p in (tmp_path / "model").iterdir()}
    with monkeypatch.context() as patched:
        patched.setattr(f"inkwell.bundle.{step}", fail)
        with pytest.raises(OSError, match="no space left"):
            bundle.save(tmp_path / "model")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert {p.name: p.read_bytes() for p in (tmp_path / "model").iterdir()} == before


def test_the_old_bundle_comes_back_when_the_last_rename_fails(
    char_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = load_bundle(char_bundle)
    bundle.save(tmp_path / "model")
    real = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if target == tmp_path / "model" and self.parent == tmp_path:
            raise OSError("refused")
        return real(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", refuse)
        with pytest.raises(OSError, match="refused"):
            bundle.save(tmp_path / "model")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    load_bundle(tmp_path / "model")


def test_saving_takes_the_novelty_index_along(copy: Path, tmp_path: Path) -> None:
    (copy / "novelty.npz").write_bytes(b"an index")
    load_bundle(copy).save(tmp_path / "again")
    assert (tmp_path / "again" / "novelty.npz").read_bytes() == b"an index"


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        load_bundle(copy)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_cut_weights_are_refused(copy: Path, share: float) -> None:
    whole = (copy / "weights.safetensors").read_bytes()
    (copy / "weights.safetensors").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(BundleError, match=r"weights.safetensors cannot be read"):
        load_bundle(copy)


def test_pickled_weights_are_refused_and_not_run(copy: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            return (Path.touch, (tmp_path / "sprung",))

    (copy / "weights.safetensors").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(BundleError, match=r"weights.safetensors cannot be read"):
        load_bundle(copy)
    torch.save({"embedding.weight": Trap()}, copy / "weights.safetensors")
    with pytest.raises(BundleError, match=r"weights.safetensors cannot be read"):
        load_bundle(copy)
    assert not (tmp_path / "sprung").exists()


def with_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        weights = load_file(path / "weights.safetensors")
        change(weights)
        save_file(weights, path / "weights.safetensors")

    return damage


def text(name: str, content: str) -> Callable[[Path], object]:
    return lambda path: (path / name).write_text(content)


def shaped(**changes: Any) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        model = json.loads((path / "config.json").read_text())["model"]
        edit_config(path, model={**model, **changes})

    return damage


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "wrong shape": (
        with_weights(lambda w: w.update({"norm.bias": torch.zeros(17)})),
        r"norm.bias has shape \(17,\), config.json asks for \(16,\)",
    ),
    "not a number": (
        with_weights(lambda w: w["norm.bias"].fill_(math.nan)),
        "norm.bias holds values that are not finite",
    ),
    "infinite": (
        with_weights(lambda w: w["norm.bias"][3:].fill_(-math.inf)),
        "norm.bias holds values that are not finite",
    ),
    "a tensor less": (with_weights(lambda w: w.pop("norm.bias")), "weights.safetensors lacks 'norm.bias'"),
    "a tensor more": (
        with_weights(lambda w: w.update(x=torch.ones(1))),
        "has 'x', which the model does not know",
    ),
    "not JSON": (text("config.json", "{'format': 1}"), "config.json cannot be read"),
    "deep JSON": (text("config.json", "[" * 100_000), "config.json cannot be read"),
    "not UTF-8": (lambda path: (path / "config.json").write_bytes(b"\xff"), "config.json cannot be read"),
    "a list": (text("config.json", "[]"), "config.json must hold an object"),
    "no format": (text("config.json", "{}"), "has format None; this version of Inkwell reads 1"),
    "another format": (lambda path: edit_config(path, format=2), "has format 2"),
    "an unknown key": (lambda path: edit_config(path, colour="red"), "unknown key 'colour'"),
    "a wrong type": (lambda path: edit_config(path, name=3), "name is 3; a value of type str"),
    "an unknown kind": (
        lambda path: edit_config(path, kind="poem"),
        "kind is 'poem'; allowed are 'stream', 'documents'",
    ),
    "an unknown model": (
        lambda path: edit_config(path, model={"architecture": "mlp"}),
        "architecture is 'mlp'",
    ),
    "no model": (lambda path: edit_config(path, model=3), "model is 3; a table"),
    "an impossible model": (shaped(heads=3), "width is 16"),
    "an unknown limit": (lambda path: edit_config(path, limits={"max": 3}), "limits: unknown key 'max'"),
    "an impossible limit": (
        lambda path: edit_config(path, limits={"max_new_tokens": 0}),
        "limits: max_new_tokens is 0; allowed is 1 or more",
    ),
    "limits that are none": (lambda path: edit_config(path, limits=3), "limits is 3; a table"),
    "an unknown default": (lambda path: edit_config(path, defaults={"temp": 1}), "defaults: temp is among"),
    "an impossible default": (
        lambda path: edit_config(path, defaults={"top_p": 2}),
        "defaults: top_p must be a number above 0 to 1; got 2",
    ),
    "another vocabulary": (shaped(vocabulary=40), "tokenizer.json has .* ids, config.json says 40"),
    "another tokenizer": (
        text("tokenizer.json", '{"format": 1, "kind": "chars", "characters": ["a", "b"]}'),
        "tokenizer.json has 3 ids",
    ),
    "no tokenizer": (text("tokenizer.json", "[1]"), "tokenizer.json is not a tokenizer"),
    "damaged words": (text("words.txt", "the\tfew\n"), "words.txt, line 1"),
    "a category less": (text("categories.json", '["elf", "ork"]'), "has 2 names, config.json says 3"),
    "no categories": (lambda path: (path / "categories.json").unlink(), "has 0 names, config.json says 3"),
    "categories that are none": (text("categories.json", "7"), "categories.json must hold a list of names"),
    "categories of another type": (
        text("categories.json", "[1, 2, 3]"),
        "categories.json must hold a list of names",
    ),
    "metrics that are none": (text("metrics.json", "[]"), "metrics.json must hold an object"),
    "damaged metrics": (text("metrics.json", "{"), "metrics.json cannot be read"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_refused_with_a_reason(copy: Path, kind: str) -> None:
    damage, message = DAMAGE[kind]
    damage(copy)
    with pytest.raises(BundleError, match=message):
        load_bundle(copy)


def test_a_model_without_categories_refuses_a_list_of_them(char_bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(char_bundle, tmp_path / "copy"))
    (copy / "categories.json").write_text('["elf"]')
    with pytest.raises(BundleError, match=r"has 1 names, config\.json says 0"):
        load_bundle(copy)


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a bundle directory"):
        load_bundle(tmp_path / "nothing")


def zipped(bundle: Path, archive: Path, folder: str = "bundle") -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("MAR-INF/MANIFEST.json", "{}")
        file.writestr("handler.py", "raise SystemExit('an archive must not run')")
        for path in bundle.iterdir():
            file.write(path, f"{folder}/{path.name}")
        file.writestr(f"{folder}/../../escaped.txt", "out")
        file.writestr(f"{folder}/nested/config.json", "{}")
    return archive


def test_a_bundle_opens_from_inside_an_archive(bundle_path: Path, tmp_path: Path) -> None:
    archive = zipped(bundle_path, tmp_path / "model.mar")
    inside, outside = open_bundle(archive), open_bundle(bundle_path)
    ids = torch.arange(1, 9)[None]
    assert torch.equal(inside.model(ids).logits, outside.model(ids).logits)
    assert (inside.config, inside.words, inside.categories) == (
        outside.config,
        outside.words,
        outside.categories,
    )
    assert (inside.path, outside.path) == (archive, bundle_path)
    assert list(tmp_path.iterdir()) == [archive]


def test_an_archive_without_a_bundle_is_refused(char_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="holds no folder 'bundle'"):
        open_bundle(zipped(char_bundle, tmp_path / "model.mar", folder="model"))


def test_what_is_neither_directory_nor_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.mar").write_bytes(b"PK but not really")
    with pytest.raises(BundleError, match="neither a bundle directory nor an archive"):
        open_bundle(tmp_path / "model.mar")
    with pytest.raises(BundleError, match="neither a bundle directory nor an archive"):
        open_bundle(tmp_path / "absent.mar")


def test_an_archive_with_flipped_bits_is_refused(char_bundle: Path, tmp_path: Path) -> None:
    archive = zipped(char_bundle, tmp_path / "model.mar")
    with zipfile.ZipFile(archive) as file:
        entry = file.getinfo("bundle/weights.safetensors")
    raw = bytearray(archive.read_bytes())
    middle = entry.header_offset + entry.compress_size // 2
    raw[middle : middle + 8] = b"\0" * 8
    archive.write_bytes(raw)
    with pytest.raises(BundleError, match="is a damaged archive"):
        open_bundle(archive)
