"""The C++ core compiled once per machine, into a cache that many processes share.

`python -m inkwell.native.build FILE` compiles it to FILE, for an image without a compiler.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from inkwell.errors import RuntimeUnavailable
from inkwell.native.settings import NativeSettings, from_environment, of_child

SOURCES = Path(__file__).parent / "src"
COMPILERS = ("c++", "g++", "clang++")
# Sums of floats must come out the same on every path: nothing may be fused or reordered.
FLAGS = (
    "-std=c++17",
    "-O3",
    "-shared",
    "-fPIC",
    "-pthread",
    "-fvisibility=hidden",
    "-fno-math-errno",
    "-ffp-contract=off",
    "-w",
)
PATIENCE_S = 300.0


@lru_cache(maxsize=1)
def source_hash() -> str:
    """Names and contents of all sources. A library says which it was made from."""
    digest = hashlib.sha256()
    for file in sorted(SOURCES.iterdir()):
        content = file.read_bytes()
        digest.update(f"{file.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:32]


def build(settings: NativeSettings) -> Path:
    """The library's file in the cache, compiled now if it is not there. Raises RuntimeUnavailable with the
    reason when there is no compiler, it fails, or the cache cannot be used."""
    compiler = find_compiler(settings)
    facts = "\n".join((source_hash(), _version(compiler), *FLAGS))
    name = f"inkwell-{hashlib.sha256(facts.encode()).hexdigest()[:32]}.so"
    try:
        _make_private(settings.cache)
        target = settings.cache / name
        if not target.is_file():
            with _locked(settings.cache):
                if not target.is_file():  # else another process has been at it meanwhile
                    compile_to(compiler, target)
    except OSError as error:
        raise RuntimeUnavailable(
            f"the cache {settings.cache} cannot be used: {error.strerror or error}"
        ) from error
    return target


def find_compiler(settings: NativeSettings) -> str:
    """Path of the C++ compiler. Raises RuntimeUnavailable."""
    if settings.compiler == "":
        raise RuntimeUnavailable("compiling is switched off (INKWELL_NATIVE_COMPILER is empty)")
    names = COMPILERS if settings.compiler is None else (settings.compiler,)
    for name in names:
        if (found := shutil.which(name)) is not None:
            return found
    raise RuntimeUnavailable(f"there is no C++ compiler here (looked for {', '.join(names)})")


def compile_to(compiler: str, target: Path) -> None:
    """Compile into `target`, which appears whole or not at all. Raises RuntimeUnavailable, OSError."""
    with tempfile.TemporaryDirectory(prefix=".build-", dir=target.parent) as scratch:
        made = Path(scratch) / "library.so"
        defined = f'-DINKWELL_SOURCE="{source_hash()}"'
        sources = [str(file) for file in sorted(SOURCES.glob("*.cpp"))]
        done = _run([compiler, *FLAGS, defined, *sources, "-o", str(made)], scratch)
        if done.returncode or not made.is_file():
            lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
            said = lines[0][:300] if lines else f"exit code {done.returncode}"
            raise RuntimeUnavailable(f"{compiler} cannot compile the core: {said}")
        with made.open("rb+") as file:
            os.fsync(file.fileno())
        made.replace(target)


def _version(compiler: str) -> str:
    done = _run([compiler, "--version"], None)
    if done.returncode:
        raise RuntimeUnavailable(f"{compiler} does not work: {(done.stderr or done.stdout).strip()[:300]}")
    return done.stdout


def _run(command: list[str], folder: str | None) -> subprocess.CompletedProcess[str]:
    try:
        # messages in one language; a compiler's scratch files go where its output goes
        environment = of_child(LC_ALL="C", **({"TMPDIR": folder} if folder else {}))
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=PATIENCE_S,
            env=environment,
        )
    except OSError as error:
        raise RuntimeUnavailable(f"{command[0]} cannot be run: {error.strerror or error}") from error
    except subprocess.TimeoutExpired as error:
        raise RuntimeUnavailable(f"{command[0]} was not done after {PATIENCE_S:.0f} s") from error


def _make_private(folder: Path) -> None:
    """What lies there is run as code: nobody else may be able to write to it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise RuntimeUnavailable(f"the cache {folder} can be written by others; its code cannot be trusted")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One compilation at a time, so that ten workers that start together do not compile ten times."""
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(arguments: list[str]) -> int:
    """Compile to the file that is named; 0, or 1 with the reason on standard error."""
    if len(arguments) != 1:
        print("usage: python -m inkwell.native.build FILE", file=sys.stderr)
        return 2
    target = Path(arguments[0]).absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        compile_to(find_compiler(from_environment()), target)
    except (RuntimeUnavailable, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
