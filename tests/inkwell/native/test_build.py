"""Compilation: once, whole or not at all, by many at a time, and with a plain reason where it cannot be."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from inkwell.errors import RuntimeUnavailable
from inkwell.native import build
from inkwell.native.library import Library, open_library
from inkwell.native.settings import NativeSettings, from_environment

# Stands in for a compiler: notes that it was called, and copies a library that was compiled before.
COMPILER = """#!{python}
import pathlib, shutil, sys, time
if "--version" in sys.argv:
    print("stand-in 1.0")
    sys.exit()
with open({calls!r}, "a") as file:
    file.write("called\\n")
time.sleep({pause})
shutil.copyfile({library!r}, sys.argv[sys.argv.index("-o") + 1])
"""


@pytest.fixture
def stand_in(library: Library, tmp_path: Path):
    """Settings whose compiler is the stand-in, with a cache of their own."""
    calls = tmp_path / "calls"
    calls.touch()
    script = tmp_path / "cxx"
    script.write_text(
        COMPILER.format(python=sys.executable, calls=str(calls), library=str(library.file), pause=0.3)
    )
    script.chmod(0o755)
    return NativeSettings(None, tmp_path / "cache", str(script), None)


def calls_of(settings: NativeSettings) -> int:
    return len((Path(settings.compiler or "").parent / "calls").read_text().split())


def script(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def test_the_library_says_which_sources_it_was_made_from(library: Library) -> None:
    assert library.source == build.source_hash()
    assert library.paths[-1] == "portable"


def test_what_was_compiled_is_found_again(stand_in: NativeSettings) -> None:
    first, second = build.build(stand_in), build.build(stand_in)
    assert first == second
    assert calls_of(stand_in) == 1
    assert sorted(file.name for file in stand_in.cache.iterdir()) == [".lock", first.name]


def test_another_compiler_makes_another_file(stand_in: NativeSettings, tmp_path: Path) -> None:
    newer = (tmp_path / "cxx").read_text().replace("stand-in 1.0", "stand-in 2.0")
    other = replace(stand_in, compiler=script(tmp_path / "newer", newer))
    assert build.build(stand_in) != build.build(other)


def test_processes_that_start_together_compile_once(stand_in: NativeSettings, tmp_path: Path) -> None:
    code = "from inkwell.native.library import open_library; print(open_library().file)"
    environment = {
        **os.environ,
        "INKWELL_NATIVE_CACHE": str(stand_in.cache),
        "INKWELL_NATIVE_COMPILER": str(stand_in.compiler),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    environment.pop("INKWELL_NATIVE_LIBRARY", None)
    running = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    try:
        said = [process.communicate(timeout=120)[0].strip() for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(set(said)) == 1
    assert Path(said[0]).parent == stand_in.cache
    assert calls_of(stand_in) == 1


def test_a_machine_without_a_compiler_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    settings = NativeSettings(None, tmp_path / "cache", None, None)
    with pytest.raises(RuntimeUnavailable, match=r"no C\+\+ compiler here \(looked for c\+\+, g\+\+"):
        build.build(settings)
    assert not settings.cache.exists()


def test_compiling_can_be_switched_off(tmp_path: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match="compiling is switched off"):
        build.build(NativeSettings(None, tmp_path, "", None))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#!/bin/sh\necho broken >&2\nexit 3\n", "does not work: broken"),
        (
            '#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "x.cpp:1: fatal error: no disk" >&2\nexit 1\n',
            "cannot compile the core: x.cpp:1: fatal error: no disk",
        ),
        ("#!/bin/sh\nexit 0\n", "cannot compile the core: exit code 0"),
        ("#!/nowhere/sh\n", "cannot be run"),
    ],
)
def test_a_broken_compiler_leaves_nothing_behind(text: str, message: str, tmp_path: Path) -> None:
    settings = NativeSettings(None, tmp_path / "cache", script(tmp_path / "cxx", text), None)
    with pytest.raises(RuntimeUnavailable, match=message):
        build.build(settings)
    left = list(settings.cache.iterdir()) if settings.cache.exists() else []
    assert [file.name for file in left] in ([], [".lock"])


def test_a_compiler_that_never_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "PATIENCE_S", 0.2)
    settings = NativeSettings(
        None, tmp_path / "cache", script(tmp_path / "cxx", "#!/bin/sh\nexec sleep 60\n"), None
    )
    with pytest.raises(RuntimeUnavailable, match="was not done after"):
        build.build(settings)


def test_a_cache_that_others_can_write_is_not_trusted(stand_in: NativeSettings) -> None:
    stand_in.cache.mkdir(mode=0o700)
    stand_in.cache.chmod(0o777)
    with pytest.raises(RuntimeUnavailable, match="can be written by others"):
        build.build(stand_in)
    assert calls_of(stand_in) == 0


def test_a_new_cache_is_for_its_owner_only(stand_in: NativeSettings) -> None:
    build.build(stand_in)
    assert stat.S_IMODE(stand_in.cache.stat().st_mode) == 0o700


def test_a_cache_that_is_a_file_is_named(tmp_path: Path, compiler: str) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(RuntimeUnavailable, match=r"cache .* cannot be used: File exists"):
        build.build(NativeSettings(None, tmp_path / "cache", compiler, None))


def test_a_library_built_beforehand_is_used_without_a_compiler(library: Library, tmp_path: Path) -> None:
    found = open_library(NativeSettings(library.file, tmp_path / "cache", "", None))
    assert found.file == library.file
    assert not (tmp_path / "cache").exists()


def test_a_library_of_other_sources_is_passed_over(
    library: Library,
    stand_in: NativeSettings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(build, "source_hash", lambda: "0" * 32)
    with pytest.raises(RuntimeUnavailable, match="made from other sources"):
        open_library(replace(stand_in, library=library.file))
    assert "INKWELL_NATIVE_LIBRARY is not used" in caplog.text


@pytest.mark.parametrize("content", [b"", b"not a library"])
def test_what_is_no_library_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "some.so").write_bytes(content)
    with pytest.raises(RuntimeUnavailable, match=r"some\.so cannot be loaded"):
        Library(tmp_path / "some.so")


def test_the_module_compiles_to_a_named_file(stand_in: NativeSettings, tmp_path: Path) -> None:
    target = tmp_path / "image" / "native.so"
    environment = {**os.environ, "INKWELL_NATIVE_COMPILER": str(stand_in.compiler)}
    command = [sys.executable, "-m", "inkwell.native.build", str(target)]
    subprocess.run(command, env=environment, check=True, timeout=120)
    assert Library(target).source == build.source_hash()
    environment["INKWELL_NATIVE_COMPILER"] = "nowhere"
    failed = subprocess.run(
        command, env=environment, check=False, timeout=120, capture_output=True, text=True
    )
    assert failed.returncode == 1
    assert "there is no C++ compiler here (looked for nowhere)" in failed.stderr


def test_settings_come_from_the_environment() -> None:
    assert from_environment({"HOME": "/home/a"}) == NativeSettings(
        None, Path("/home/a/.cache/inkwell/native"), None, None
    )
    given = {
        "XDG_CACHE_HOME": "/c",
        "INKWELL_NATIVE_LIBRARY": "/l.so",
        "INKWELL_NATIVE_COMPILER": "",
        "INKWELL_NATIVE_PATH": "avx2",
    }
    assert from_environment(given) == NativeSettings(Path("/l.so"), Path("/c/inkwell/native"), "", "avx2")
    assert from_environment({"INKWELL_NATIVE_CACHE": "/d"}).cache == Path("/d")
