"""A model on disk: a plain directory, read without unpickling anything.

config.json          format, name, family, version, model shape, how texts begin and end, defaults, limits
weights.safetensors  the parameters
tokenizer.json       characters or byte-level BPE
words.txt            seed words with their counts
categories.json      category names in order of index 1, 2, … (only for models that have them)
novelty.npz          index of the training text (absent when training was told to leave it out)
metrics.json         losses, memorisation share, data hash
runtimes.json        what runtimes that round cost this model, as measured by `inkwell archive`
MODEL_CARD.md        what a person wants to know
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch.overrides import TorchFunctionMode

from inkwell.config import from_mapping
from inkwell.errors import BundleError, ConfigError, InvalidJob
from inkwell.job import Limits, read_job
from inkwell.models import LanguageModel, build_model
from inkwell.novelty import NoveltyIndex
from inkwell.tokenizer import BPETokenizer, CharTokenizer, load_tokenizer
from inkwell.words import SeedWords

FORMAT = 1
_MAX_UNPACKED = 16 << 30  # bytes of a bundle in an archive; a few kilobytes of zeros unpack to any size
FILES = ("config.json", "weights.safetensors", "tokenizer.json", "words.txt")
OPTIONAL_FILES = ("categories.json", "novelty.npz", "metrics.json", "runtimes.json", "MODEL_CARD.md")


@dataclass(frozen=True)
class BundleConfig:
    """config.json. `start` is text that silently precedes every prompt ("" : the end mark alone does).

    A `stream` has no end, so its end mark is barred; `documents` end with it.
    """

    name: str
    family: str
    model: dict[str, Any]
    version: str = "1.0"
    format: int = FORMAT
    kind: Literal["stream", "documents"] = "documents"
    start: str = ""
    seed_words: bool = True
    defaults: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)


@dataclass
class Bundle:
    """A loaded bundle."""

    config: BundleConfig
    model: LanguageModel
    tokenizer: CharTokenizer | BPETokenizer
    words: SeedWords
    categories: tuple[str, ...] = ()
    metrics: dict[str, Any] = field(default_factory=dict)
    card: str = ""
    path: Path | None = None
    novelty: NoveltyIndex | None = None
    runtimes: dict[str, Any] = field(default_factory=dict)

    def load_novelty(self) -> NoveltyIndex | None:
        """The index of the training text, read on first use; None when the bundle has none."""
        if self.novelty is None and self.path is not None and (self.path / "novelty.npz").is_file():
            self.novelty = NoveltyIndex.load(self.path / "novelty.npz")
        return self.novelty

    @property
    def limits(self) -> Limits:
        return from_mapping(Limits, self.config.limits, "config.json, limits")

    def save(self, path: Path) -> None:
        """Write the bundle as a whole or not at all: into a neighbouring directory, then renamed into place.

        Replaces a bundle or an empty directory; BundleError for anything else that stands there.
        """
        path = path.absolute()
        if path.exists() and not (path / "config.json").is_file() and (path.is_file() or any(path.iterdir())):
            raise BundleError(f"{path} exists and is no bundle; it is left as it is")
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            _write_json(staging / "config.json", asdict(self.config))
            _write_json(staging / "metrics.json", self.metrics)
            self.tokenizer.save(staging / "tokenizer.json")
            self.words.save(staging / "words.txt")
            if self.categories:
                _write_json(staging / "categories.json", list(self.categories))
            if self.runtimes:
                _write_json(staging / "runtimes.json", self.runtimes)
            if self.card:
                (staging / "MODEL_CARD.md").write_text(self.card, encoding="utf-8")
            weights = {
                name: value.detach().cpu().contiguous() for name, value in _unshared(self.model).items()
            }
            save_file(weights, staging / "weights.safetensors", metadata={"format": str(FORMAT)})
            if self.novelty is not None:
                self.novelty.save(staging / "novelty.npz")
            elif self.path is not None and (self.path / "novelty.npz").is_file():
                shutil.copy2(self.path / "novelty.npz", staging / "novelty.npz")
            for file in staging.iterdir():
                _flush(file)
            staging.chmod(0o755)
            if path.exists():
                old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
                path.rename(old / path.name)
                try:
                    staging.rename(path)
                except OSError:
                    (old / path.name).rename(path)
                    raise
                finally:
                    shutil.rmtree(old)
            else:
                staging.rename(path)
        finally:
            if staging.exists():
                shutil.rmtree(staging)


def load_bundle(path: Path, device: str | torch.device = "cpu") -> Bundle:
    """Read a bundle directory; BundleError names the file and what is wrong with it."""
    if not path.is_dir():
        raise BundleError(f"{path} is not a bundle directory")
    for name in FILES:
        if not (path / name).is_file():
            raise BundleError(f"{path}: {name} is missing")
    values = _read_json(path / "config.json")
    if not isinstance(values, dict):
        raise BundleError(f"{path}: config.json must hold an object")
    if values.get("format") != FORMAT:
        found = values.get("format")
        raise BundleError(f"{path}: config.json has format {found!r}; this version of Inkwell reads {FORMAT}")
    try:
        config = from_mapping(BundleConfig, values, "config.json")
        shapes = _shapes(path / "weights.safetensors")
        model = _outline(config.model, shapes)
        limits = from_mapping(Limits, config.limits, "config.json, limits")
        read_job({"id": "defaults"}, config.defaults, limits)
    except ConfigError as error:
        raise BundleError(f"{path}: {error}") from error
    except InvalidJob as error:
        raise BundleError(f"{path}: config.json, defaults: {error}") from error
    tokenizer = load_tokenizer(path / "tokenizer.json")
    if tokenizer.size != model.vocabulary:
        raise BundleError(
            f"{path}: tokenizer.json has {tokenizer.size} ids, config.json says {model.vocabulary}"
        )
    categories = _read_categories(path / "categories.json")
    expected = max(0, config.model.get("categories", 0) - 1)
    if expected != len(categories):
        raise BundleError(f"{path}: categories.json has {len(categories)} names, config.json says {expected}")
    _check_shapes(model, shapes)
    with _Unfilled():
        model = build_model(config.model, "config.json, model")
    _load_weights(model, path / "weights.safetensors")
    metrics = _read_json(path / "metrics.json") if (path / "metrics.json").is_file() else {}
    if not isinstance(metrics, dict):
        raise BundleError(f"{path}: metrics.json must hold an object")
    runtimes = _read_json(path / "runtimes.json") if (path / "runtimes.json").is_file() else {}
    if not isinstance(runtimes, dict):
        raise BundleError(f"{path}: runtimes.json must hold an object")
    card = _read_text(path / "MODEL_CARD.md") if (path / "MODEL_CARD.md").is_file() else ""
    words = SeedWords.load(path / "words.txt")
    model = model.to(device).eval()
    return Bundle(config, model, tokenizer, words, categories, metrics, card, path, runtimes=runtimes)


def open_bundle(path: Path, device: str | torch.device = "cpu") -> Bundle:
    """A bundle from its directory or from inside a `.mar` archive; nothing of an archive's code is run."""
    if path.is_dir():
        return load_bundle(path, device)
    if not zipfile.is_zipfile(path):
        raise BundleError(f"{path} is neither a bundle directory nor an archive")
    with tempfile.TemporaryDirectory(prefix="inkwell-") as scratch:
        _unpack(path, Path(scratch))
        bundle = load_bundle(Path(scratch), device)
        bundle.load_novelty()  # the scratch folder is gone in a moment
        bundle.path = path
        return bundle


def _unpack(archive_path: Path, target: Path) -> None:
    try:
        with zipfile.ZipFile(archive_path) as archive:
            names = [
                name for name in archive.namelist() if name.startswith("bundle/") and name.count("/") == 1
            ]
            if (size := sum(archive.getinfo(name).file_size for name in names)) > _MAX_UNPACKED:
                raise BundleError(f"{archive_path} unpacks to {size} bytes; at most {_MAX_UNPACKED} are read")
            for name in names:
                base = name.removeprefix("bundle/")
                if base in FILES + OPTIONAL_FILES:
                    with archive.open(name) as source, (target / base).open("wb") as file:
                        shutil.copyfileobj(source, file)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, OSError) as error:
        raise BundleError(f"{archive_path} is a damaged archive: {error}") from error
    if not names:
        raise BundleError(f"{archive_path} holds no folder 'bundle'; it was not built by Inkwell")


def _unshared(model: LanguageModel) -> Mapping[str, torch.Tensor]:
    """Parameters by name, each shared (tied) tensor under its first name only."""
    return dict(model.named_parameters())


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors, without reading them."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise BundleError(f"{path.name} cannot be read: {error}") from error


class _Unfilled(TorchFunctionMode):
    """Leaves out what fills parameters with random numbers: a file's take their place, or there is nothing to fill
    and torch would load its compiler for it. Either takes a second."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if (
            func in (torch.Tensor.normal_, torch.Tensor.uniform_)
            or getattr(func, "__module__", "") == "torch.nn.init"
        ):
            return args[0] if args else kwargs["tensor"]
        if func is torch.linalg.qr:
            # what `orthogonal_` makes of a matrix with no more columns than rows; only the shapes matter
            return args[0], args[0][: args[0].shape[1]]
        return func(*args, **kwargs)


def _outline(settings: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> LanguageModel:
    """The model without memory for its parameters: settings may ask for more than any machine has."""
    layers = settings.get("layers")
    if isinstance(layers, int) and layers > len(shapes):
        raise ConfigError(
            f"config.json, model: layers is {layers}; weights.safetensors holds {len(shapes)} tensors"
        )
    try:
        with torch.device("meta"), _Unfilled():
            return build_model(settings, "config.json, model")
    except (RuntimeError, OverflowError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"config.json, model: no such model can be made: {reason}") from error


def _check_shapes(model: LanguageModel, shapes: Mapping[str, tuple[int, ...]]) -> None:
    wanted = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    missing, extra = sorted(set(wanted) - set(shapes)), sorted(set(shapes) - set(wanted))
    if missing or extra:
        what = f"lacks {missing[0]!r}" if missing else f"has {extra[0]!r}, which the model does not know"
        raise BundleError(f"weights.safetensors {what}")
    for name, needed in wanted.items():
        if shapes[name] != needed:
            raise BundleError(
                f"weights.safetensors: {name} has shape {shapes[name]}, config.json asks for {needed}"
            )


def _load_weights(model: LanguageModel, path: Path) -> None:
    """Fill in a model whose shapes were compared with the file's."""
    try:
        weights = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise BundleError(f"{path.name} cannot be read: {error}") from error
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not torch.isfinite(weights[name]).all():
                raise BundleError(f"{path.name}: {name} holds values that are not finite")
            parameter.copy_(weights[name])


def _read_categories(path: Path) -> tuple[str, ...]:
    names = _read_json(path) if path.is_file() else []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BundleError(f"{path.name} must hold a list of names")
    return tuple(names)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path.name} cannot be read: {error}") from error


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path.name} cannot be read: {error}") from error


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
