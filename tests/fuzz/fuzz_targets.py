"""What is fuzzed: each target takes bytes that anybody may send or leave on a disk, and may only refuse them.

A target raises whenever something else happens than what the product promises: an exception that is not one of
its refusals, a refusal without a reason, a job without an end, a file outside of the folder it belongs to.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from api.errors import GatewayError, InvalidRequest
from api.keys import KeyFileError, parse_keys
from api.native_schema import GenerateRequest
from api.openai_schema import CompletionRequest
from api.parsing import refusal
from api.plan import plan
from api.settings import Settings
from api.staging import Staging
from deploy import models_file, store
from deploy.errors import ArchiveError
from handlers.posts import Desk
from inkwell.bundle import Bundle, BundleConfig, load_bundle, open_bundle
from inkwell.constraints import compile_constraint
from inkwell.errors import BundleError, InvalidJob
from inkwell.job import Limits, read_job
from inkwell.models import build_model, model_settings
from inkwell.session import TextEngine
from inkwell.tokenizer import CharTokenizer
from inkwell.words import SeedWords
from training.data.fmg_binary import read_fmg_binary
from training.data.fmg_xml import read_fmg_xml
from training.data.load import load
from training.errors import DataError, UserError

Target = Callable[[bytes], None]
HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
MODELS = models_file.loads(
    '[models.prose]\nfamily = "prose"\ndefault = true\n[models.names]\nfamily = "names"\nmax_new_tokens = 64\n'
)
TEXT = (
    "The harbour lay quiet under the lantern. Old sailors burned rope, ate bread, and said: 1234567890 äö!?\n"
)


class Finding(AssertionError):  # noqa: N818 - the field's word
    """The product did something else than it promises."""


def told(error: Exception, *, field: str | None = None) -> None:
    """A refusal must say something, in words that do not show the machinery."""
    text = str(error)
    if not text.strip() or "Traceback" in text:
        raise Finding(f"a refusal without a reason: {error!r}") from error
    if field is not None and field not in text:
        raise Finding(f"a refusal that does not name its field {field!r}: {text}") from error


@cache
def scratch() -> Path:
    return Path(tempfile.mkdtemp(prefix="inkwell-fuzz-"))


def put(name: str, data: bytes) -> Path:
    path = scratch() / name
    path.write_bytes(data)
    return path


# What comes over the network


def request(data: bytes) -> None:
    """The body of a generation request, native and OpenAI."""
    for schema, prompt_field, tokens_field in (
        (GenerateRequest, "inputs", "max_new_tokens"),
        (CompletionRequest, "prompt", "max_tokens"),
    ):
        try:
            _request(schema, data, prompt_field, tokens_field)
        except GatewayError as error:
            if not 400 <= error.status < 500:
                raise Finding(f"status {error.status} for a body: {error.message}") from error
            told(error, field=error.field)
            json.dumps(error.native()).encode()


def _request(schema: type[Any], data: bytes, prompt_field: str, tokens_field: str) -> None:
    from pydantic import ValidationError

    try:
        body = schema.model_validate_json(data)
    except ValidationError as error:
        raise refusal(error, schema) from None
    if isinstance(body, GenerateRequest):
        params: Any = body.settings()
        prompts: list[Any] = [*body.inputs] if isinstance(body.inputs, list) else [body.inputs]
    else:
        params, prompts = body, body.prompts()
    made = plan(
        MODELS.models["prose"], Settings(), params, prompts,
        prompt_field=prompt_field, tokens_field=tokens_field, logprobs=True,
    )  # fmt: skip
    for index in range(len(made.prompts)):
        # What is sent on must be what the worker's reader takes, or refuses in its own words.
        json.dumps(made.job_fields(index, 0), allow_nan=False).encode("utf-8", "surrogatepass")
        if made.cost(index) <= 0:
            raise Finding("a job that costs nothing")


@cache
def tiny() -> Bundle:
    """An untrained model of a few hundred parameters."""
    torch.set_num_threads(1)
    torch.manual_seed(3)
    tokenizer = CharTokenizer.fit([TEXT])
    shape = {"architecture": "recurrent", "cell": "gru", "hidden": 8, "layers": 1, "embedding": 0}
    model = build_model({**shape, "vocabulary": tokenizer.size})
    config = BundleConfig(
        name="prose", family="prose", model=model_settings(model), kind="stream", start="\n",
        limits={"max_new_tokens": 24, "max_prompt_tokens": 64},
    )  # fmt: skip
    words = SeedWords.collect([TEXT * 3])
    bundle = Bundle(config, model, tokenizer, words, (), {"training": {}}, "# A card\n")
    bundle.model.eval()
    return bundle


_DESK: list[Desk] = []


def post(data: bytes) -> None:
    """A POST to the worker: every job gets exactly one end, and the engine is empty afterwards."""
    if not _DESK:
        _DESK.append(Desk(TextEngine(tiny(), slots=3, queue=8), slice_seconds=0.0))
    desk = _DESK[0]
    lines: list[dict[str, Any]] = []
    last: bool | None = False
    for _ in range(400):
        (reply,) = desk.call(["r"], [data])
        lines += [json.loads(line) for line in reply.chunk.split(b"\n") if line.strip()]
        last = reply.last
        if last is not False:
            break
    else:
        raise Finding("a reply without an end")
    if desk.live or not desk.engine.idle or desk.engine.engine.active or desk.engine.engine.queued:
        raise Finding("something is left with the engine")
    ends: dict[str, int] = {}
    for line in lines:
        if line.get("error_type") == "generation" or "interrupted" in line.values():
            raise Finding(f"an exception inside: {line}")
        if "error" in line and not line["error"].strip():
            raise Finding(f"an error without a reason: {line}")
        if line.get("event") in ("end", "error") and isinstance(line.get("job"), str):
            ends[line["job"]] = ends.get(line["job"], 0) + 1
    begun = [line["job"] for line in lines if line.get("event") == "start"]
    for name in begun:
        # A name that stands twice has the error of the second beside the end of the first.
        if not 1 <= ends.get(name, 0) <= 1 + begun.count(name) + (len(begun) > 1):
            raise Finding(f"job {name!r} has {ends.get(name, 0)} ends")


def regex(data: bytes) -> None:
    """A regular expression and rules beside it: first line the pattern, then `name=value` lines."""
    text = data.decode("utf-8", "replace")
    pattern, *rules = text.split("\n")
    values: dict[str, Any] = {"id": "r", "seed": 1, "max_new_tokens": 24, "regex": pattern}
    for rule in rules[:6]:
        name, _, value = rule.partition("=")
        if name in ("starts_with", "ends_with", "contains", "allowed_chars"):
            values[name] = value
        elif name in ("min_chars", "max_chars", "syllables") and value.isdecimal() and len(value) < 7:
            values[name] = int(value)
    try:
        job = read_job(values, {}, Limits(max_new_tokens=24))
        constraint = compile_constraint(job, tiny().tokenizer, False)
    except InvalidJob as error:
        told(error)
        return
    if not constraint.allowed().any():
        raise Finding("a shape that was accepted, and allows nothing")


# What lies on a disk

_FILES = ("config.json", "tokenizer.json", "words.txt", "weights.safetensors", "novelty.npz", "metrics.json",
          "categories.json")  # fmt: skip


@cache
def saved() -> Path:
    path = scratch() / "bundle"
    tiny().save(path)
    return path


def bundle(data: bytes) -> None:
    """A bundle with one of its files replaced; the first byte says which."""
    if not data:
        return
    copy = Path(shutil.copytree(saved(), scratch() / "changed", dirs_exist_ok=True))
    try:
        (copy / _FILES[data[0] % len(_FILES)]).write_bytes(data[1:])
        loaded = load_bundle(copy)
        loaded.load_novelty()
    except BundleError as error:
        told(error)
    finally:
        shutil.rmtree(copy)


def archive(data: bytes) -> None:
    """A `.mar`: opened for its bundle, and checked and unpacked as the store and the gateway do it."""
    folder = Path(tempfile.mkdtemp(dir=scratch()))
    try:
        (folder / "models").mkdir()
        path = folder / "models" / "prose.mar"
        path.write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        listed = {"prose.mar": {"sha256": digest, "model": "prose", "version": "1.0", "memory_mb": 1}}
        (folder / "models" / "index.json").write_text(json.dumps({"archives": listed}))
        refused = []
        for step in (_open, _verify, _stage):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # zipfile warns of doubled names
                    step(path)
            except (BundleError, ArchiveError, GatewayError) as error:
                told(error)
                refused.append(step)
        outside = {p.name for p in folder.iterdir()} - {"models", "served", "staged"}
        if outside:
            raise Finding(f"unpacking left {outside} outside of its folder")
        if _verify in refused and _stage not in refused:
            raise Finding("the gateway takes what the store refuses")
    finally:
        shutil.rmtree(folder)


def _open(path: Path) -> None:
    open_bundle(path).load_novelty()


def _verify(path: Path) -> None:
    checked = store.verify(path.parent, store.read_index(path.parent), path.name, "prose")
    store.unpack(checked, path.parent.parent / "served", ["minWorkers: 1\n", "minWorkers: 1\n"])


def _stage(path: Path) -> None:
    staging = Staging(path.parent, path.parent.parent / "staged")
    staging.unpack(staging.check(path.name, "prose"), 0)


def fmg_xml(data: bytes) -> None:
    """Game texts as XML."""
    _data_only(lambda: read_fmg_xml(put("weapon.fmg.xml", data)))


def fmg_binary(data: bytes) -> None:
    """Game texts in their own form: a table, a bundle of tables, either of them compressed."""
    _data_only(lambda: read_fmg_binary(put("weapon.fmg", data)))


def corpus(data: bytes) -> None:
    """Text, tables and JSON Lines; the first byte says which."""
    if data:
        suffix = (".txt", ".csv", ".tsv", ".jsonl")[data[0] % 4]
        _data_only(lambda: load(put(f"corpus{suffix}", data[1:])))


def _data_only(read: Callable[[], object]) -> None:
    try:
        read()
    except (DataError, UserError) as error:
        told(error)


def keys(data: bytes) -> None:
    """The file of API keys."""
    try:
        # A cost of hours is a setting of the operator; the reader itself must refuse what it cannot do.
        parse_keys(data.decode("utf-8", "replace"))
    except KeyFileError as error:
        told(error, field="line")


def models(data: bytes) -> None:
    """The models file, and the index of archives."""
    try:
        models_file.loads(data.decode("utf-8", "replace"))
    except models_file.ModelsFileError as error:
        told(error)
    put("index.json", data)
    try:
        store.read_index(scratch())
    except ArchiveError as error:
        told(error)
    try:
        Staging(scratch(), None).listed()
    except (GatewayError, InvalidRequest) as error:
        told(error)


TARGETS: dict[str, Target] = {
    "request": request,
    "post": post,
    "regex": regex,
    "bundle": bundle,
    "archive": archive,
    "fmg_xml": fmg_xml,
    "fmg_binary": fmg_binary,
    "corpus": corpus,
    "keys": keys,
    "models": models,
}
