"""Who may import whom: training → inkwell ← handlers; api stands alone; inkwell needs four libraries."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("inkwell", "training", "handlers", "api", "deploy")
OTHERS = ("tests", "benchmarks", "docs", "ts")
# What each package may take from the others.
ARROWS = {
    "inkwell": {"inkwell"},
    "training": {"training", "inkwell", "deploy"},
    "handlers": {"handlers", "inkwell"},
    "api": {"api", "deploy"},
    "deploy": {"deploy"},
}
# Files of deploy that the gateway's image holds.
SHARED = ("archives", "models_file")
WORKER_LIBRARIES = {"torch", "numpy", "tokenizers", "safetensors"}
# Only inside functions and for type checking: the client of a served model, and a runtime; extras.
OPTIONAL = {"inkwell/client": {"httpx", "typing_extensions"}, "inkwell/onnx": {"onnx", "onnxruntime"}}


class Import(NamedTuple):
    file: str
    line: int
    module: str
    late: bool  # not carried out when the file is imported

    @property
    def root(self) -> str:
        return self.module.split(".")[0]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def imports_in(source: str, file: str) -> list[Import]:
    """Every import statement, wherever it stands."""
    found: list[Import] = []

    def visit(node: ast.AST, late: bool) -> None:
        for child in ast.iter_child_nodes(node):
            inner = late or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                inner = True
            if isinstance(child, ast.Import):
                found.extend(Import(file, child.lineno, alias.name, inner) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                # `from package import module` counts as that module.
                base = "." * child.level + (child.module or "")
                found.extend(
                    Import(file, child.lineno, f"{base}.{alias.name}", inner) for alias in child.names
                )
            visit(child, inner)

    visit(ast.parse(source), False)
    return found


def imports_of(package: str) -> list[Import]:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files, f"no files in {package}"
    return [
        found
        for path in files
        for found in imports_in(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix())
    ]


def named(imports: list[Import]) -> str:
    return "\n".join(map(str, imports))


def test_the_reader_finds_imports_wherever_they_stand():
    source = """
import a.b, c
from d import e
if TYPE_CHECKING:
    import f
def g():
    from h.i import j
class K:
    import l
try:
    import m
except ImportError:
    from . import n
"""
    found = [(item.module, item.late) for item in imports_in(source, "x.py")]
    assert found == [
        ("a.b", False), ("c", False), ("d.e", False), ("f", True), ("h.i.j", True), ("l", False), ("m", False),
        ("..n", False),
    ]  # fmt: skip


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_where_the_arrows_point(package):
    wrong = [
        item
        for item in imports_of(package)
        if item.root in (*PACKAGES, *OTHERS) and item.root not in ARROWS[package]
    ]
    assert not wrong, named(wrong)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_are_written_in_full(package):
    wrong = [item for item in imports_of(package) if item.module.startswith(".")]
    assert not wrong, named(wrong)


def test_the_library_needs_the_workers_libraries_only():
    allowed = {"inkwell", "__future__", *WORKER_LIBRARIES, *sys.stdlib_module_names}
    wrong = []
    for item in imports_of("inkwell"):
        extras = next(
            (names for folder, names in OPTIONAL.items() if item.file.startswith(f"{folder}/")), set()
        )
        if item.root not in allowed and not (item.late and item.root in extras):
            wrong.append(item)
    assert not wrong, named(wrong)


def test_handlers_need_torch_and_the_library_only():
    allowed = {"handlers", "inkwell", "torch", *sys.stdlib_module_names}
    wrong = [item for item in imports_of("handlers") if item.root not in allowed]
    assert not wrong, named(wrong)


def test_the_gateway_takes_from_deploy_only_what_its_image_holds():
    image = (ROOT / "deploy" / "docker" / "Dockerfile.gateway").read_text(encoding="utf-8")
    for module in SHARED:
        assert f" deploy/{module}.py " in image
    wrong = []
    for item in imports_of("api"):
        path = item.module.split(".")
        if path[0] == "deploy" and path[1:2] not in ([module] for module in SHARED):
            wrong.append(item)
    assert not wrong, named(wrong)


def test_the_gateways_image_needs_no_torch():
    heavy = WORKER_LIBRARIES | {"typer", "rich", "psutil", "yaml"}
    wrong = [item for item in imports_of("api") if item.root in heavy]
    assert not wrong, named(wrong)


@pytest.mark.parametrize("module", SHARED)
def test_what_the_gateway_takes_from_deploy_needs_nothing_but_python(module):
    source = (ROOT / "deploy" / f"{module}.py").read_text(encoding="utf-8")
    allowed = {*sys.stdlib_module_names, "tomllib", "tomli"}
    wrong = [item for item in imports_in(source, f"deploy/{module}.py") if item.root not in allowed]
    assert not wrong, named(wrong)


def test_archiving_copies_the_handlers_and_never_imports_them():
    wrong = [item for item in imports_of("training") if item.root == "handlers"]
    assert not wrong, named(wrong)


def test_only_one_file_of_each_service_reads_the_environment():
    readers = {
        package: sorted(
            path.relative_to(ROOT).as_posix()
            for path in (ROOT / package).rglob("*.py")
            if any(mark in path.read_text(encoding="utf-8") for mark in ("os.environ", "os.getenv"))
        )
        for package in ("inkwell", "handlers", "api", "deploy")
    }
    # The native runtime's library and compiler are a matter of the machine, not of a model or its bundle.
    assert readers["inkwell"] == ["inkwell/native/settings.py"]
    assert readers["handlers"] == []
    # pydantic-settings reads it for the gateway.
    assert readers["api"] == []
    assert readers["deploy"] == ["deploy/settings.py"]
