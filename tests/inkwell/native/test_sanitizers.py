"""The core under the compiler's sanitizers: memory, undefined behaviour, data races."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from inkwell.native import build
from inkwell.native.library import Library

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.parametrize(("sanitizers", "words"), [("address,undefined", []), ("thread", ["large"])])
def test_the_core_is_clean_under(
    sanitizers: str, words: list[str], compiler: str, library: Library, tmp_path: Path
) -> None:
    program = tmp_path / "driver"
    flags = [flag for flag in build.FLAGS if flag not in ("-O3", "-shared", "-fvisibility=hidden")]
    if "avx2" in library.paths and "avx512" not in library.paths:
        flags += ["-mavx2", f'-DINKWELL_EMULATED_AVX512="{HERE / "emulated_avx512.h"}"']
    sources = [str(file) for file in sorted(build.SOURCES.glob("*.cpp")) if file.name != "api.cpp"]
    made = subprocess.run(
        [
            *(compiler, "-O1", "-g", f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all", *flags),
            *(f"-I{build.SOURCES}", str(HERE / "driver.cpp"), *sources, "-o", str(program)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if "cannot find -l" in made.stderr:
        pytest.skip(f"this compiler has no sanitizer for {sanitizers}")
    assert made.returncode == 0, made.stderr
    run = subprocess.run(
        [str(program), *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        env={**os.environ, "TSAN_OPTIONS": "halt_on_error=1", "ASAN_OPTIONS": "detect_leaks=1"},
    )
    assert run.returncode == 0, run.stderr[-4000:]
    assert int(run.stdout.split()[0]) > 20
