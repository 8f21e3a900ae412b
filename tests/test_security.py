"""Nothing on the load path is unpickled, TorchServe is reachable from this machine only, and keys stay secret."""

from __future__ import annotations

import ast
import hmac
import io
import json
import os
import pickle
import re
import shutil
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from api import keys
from deploy import ports, preparation
from deploy.errors import OptionError
from deploy.settings import Options
from inkwell.bundle import FILES, OPTIONAL_FILES, load_bundle, open_bundle
from inkwell.errors import BundleError

ROOT = Path(__file__).resolve().parents[1]
# What runs in a worker, and what reads bundles and archives before that.
LOAD_PATH = [*(ROOT / "inkwell").rglob("*.py"), *(ROOT / "handlers").rglob("*.py"),
             *(ROOT / "api").rglob("*.py"), *(ROOT / "deploy").rglob("*.py")]  # fmt: skip
FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
# Calls that unpickle, by the last two parts of their names.
FORBIDDEN_CALLS = {"torch.load", "numpy.load", "yaml.load", "yaml.unsafe_load", "pandas.read_pickle"}


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (Path.touch, (self.mark,))


def traps(mark: Path) -> dict[str, bytes]:
    """Pickles as they come in model files: bare, of torch, of numpy."""
    torch_file, numpy_file = io.BytesIO(), io.BytesIO()
    torch.save({"w": Trap(mark)}, torch_file)
    np.save(numpy_file, np.array([Trap(mark)], dtype=object), allow_pickle=True)
    npz = io.BytesIO()
    np.savez(npz, index=np.array([Trap(mark)], dtype=object), allow_pickle=True)
    return {
        "bare": pickle.dumps(Trap(mark)),
        "torch": torch_file.getvalue(),
        "numpy": numpy_file.getvalue(),
        "npz": npz.getvalue(),
    }


def sprung(mark: Path, data: bytes) -> bool:
    """Whether unpickling `data` springs the trap: the trap must work for a test of it to mean anything."""
    pickle.loads(data)
    found = mark.exists()
    mark.unlink(missing_ok=True)
    return found


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    mark = tmp_path / "sprung"
    assert sprung(mark, traps(mark)["bare"])
    return mark


@pytest.mark.parametrize("kind", ["bare", "torch", "numpy", "npz"])
@pytest.mark.parametrize("name", [*FILES, *OPTIONAL_FILES])
def test_a_pickle_in_the_place_of_a_bundles_file_is_never_loaded(
    char_bundle: Path, tmp_path: Path, mark: Path, name: str, kind: str
) -> None:
    copy = Path(shutil.copytree(char_bundle, tmp_path / "prose"))
    (copy / name).write_bytes(traps(mark)[kind])
    with pytest.raises(BundleError):
        load_bundle(copy).load_novelty()
    assert not mark.exists()


def test_pickles_beside_the_files_of_a_bundle_and_an_archive_are_never_loaded(
    char_bundle: Path, tmp_path: Path, mark: Path
) -> None:
    copy = Path(shutil.copytree(char_bundle, tmp_path / "prose"))
    for kind, data in traps(mark).items():
        for name in (f"{kind}.pkl", f"{kind}.pt", "pytorch_model.bin", "model.pth", "weights.npy"):
            (copy / name).write_bytes(data)
    expected = load_bundle(copy).config.name
    path = tmp_path / "prose.mar"
    with zipfile.ZipFile(path, "w") as archive:
        for file in copy.iterdir():
            archive.write(file, f"bundle/{file.name}")
            archive.write(file, file.name)
    assert open_bundle(path).config.name == expected
    assert not mark.exists()


def test_no_code_on_the_load_path_can_unpickle() -> None:
    found = []
    for path in LOAD_PATH:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import):
                found += [f"{where} imports {a.name}" for a in node.names if a.name in FORBIDDEN_MODULES]
            elif isinstance(node, ast.ImportFrom) and (node.module or "") in FORBIDDEN_MODULES:
                found.append(f"{where} imports from {node.module}")
            elif isinstance(node, ast.Call):
                name = ast.unparse(node.func).replace("np.", "numpy.")
                careful = any(
                    word.arg == "allow_pickle" and ast.unparse(word.value) == "False"
                    for word in node.keywords
                )
                if name in FORBIDDEN_CALLS and not careful:
                    found.append(f"{where} calls {name}")
    assert len(LOAD_PATH) > 80
    assert found == []


# Ports


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost", "::ffff:127.0.0.1"])
def test_loopback_hosts_are_known(host: str) -> None:
    assert ports.is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "", "::ffff:10.0.0.1"])
def test_other_hosts_are_not_loopback(host: str) -> None:
    assert not ports.is_loopback(host)


def test_a_process_that_listens_for_other_machines_is_found_with_its_place() -> None:
    with socket.socket() as inside, socket.socket() as outside:
        inside.bind(("127.0.0.1", 0))
        inside.listen()
        before = ports.exposed(os.getpid())
        outside.bind(("0.0.0.0", 0))
        outside.listen()
        after = ports.exposed(os.getpid())
        assert set(after) - set(before) == {f"0.0.0.0:{outside.getsockname()[1]}"}


def test_serving_with_torchserve_on_another_host_is_refused(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text('[models.prose]\nfamily = "prose"\n', encoding="utf-8")
    options = Options(models_file=tmp_path / "models.toml", run_dir=tmp_path, worker_host="0.0.0.0")
    with pytest.raises(OptionError, match=re.escape("worker_host = '0.0.0.0'")):
        preparation.prepare(options, Console(file=io.StringIO()))


# Keys


def test_a_key_is_compared_in_constant_time_and_kept_as_a_hash_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[int] = []
    token, line = keys.make_key("ada")
    (tmp_path / "keys").write_text("\n".join([line, keys.make_key("bob")[1], keys.make_key("cid")[1]]))
    ring = keys.KeyRing(tmp_path / "keys")
    original = hmac.compare_digest
    monkeypatch.setattr(keys.hmac, "compare_digest", lambda a, b: compared.append(1) or original(a, b))
    for wrong in ("", "iw-", token[:-1], token + "x", "x" * 10_000):
        assert ring.caller(wrong) is None
    assert len(compared) == 5 * 3, "every key is compared, whichever is right"
    compared.clear()
    assert ring.caller(token) == keys.Caller("ada")
    assert len(compared) == 3
    assert token not in line
    assert token not in repr(vars(ring))


def test_a_shipped_alert_dashboard_or_default_holds_no_secret() -> None:
    suspicious = re.compile(r"(?i)(password|secret|token|api_key)\s*[=:]\s*[\"'][A-Za-z0-9+/_-]{12,}[\"']")
    kinds = (".toml", ".yml", ".yaml", ".json", ".properties")
    shipped = [path for path in (ROOT / "deploy").rglob("*") if path.suffix in kinds]
    assert shipped
    found = [f"{p.name}: {m.group()}" for p in shipped for m in suspicious.finditer(p.read_text("utf-8"))]
    assert found == [], json.dumps(found)
