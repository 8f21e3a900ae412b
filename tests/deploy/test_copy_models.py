from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.copy_models import copy, main
from deploy.errors import ArchiveError
from deploy.models_file import loads
from deploy.store import read_index, verify

ONE = loads('[models.prose]\nfamily = "prose"')


@pytest.fixture
def target(tmp_path: Path) -> Path:
    made = tmp_path / "target"
    made.mkdir()
    return made


def test_copied_store_is_one_that_can_be_served(archives, target) -> None:
    archives.build("prose")
    archives.build("other")
    archives.index()
    assert copy(ONE, archives.store, target) == ["prose.mar"]
    assert sorted(path.name for path in target.iterdir()) == ["index.json", "prose.mar"]
    assert verify(target, read_index(target), "prose.mar", "prose").entry.model == "prose"


def test_changed_archive_is_refused_and_leaves_no_index(archives, target) -> None:
    archive = archives.build("prose")
    archives.index()
    copy(ONE, archives.store, target)
    archives.add_member(archive, "evil.py")
    with pytest.raises(ArchiveError, match="has changed"):
        copy(ONE, archives.store, target)
    assert not (target / "index.json").exists()


def test_program_says_what_it_did_and_what_is_wrong(archives, target, monkeypatch, capsys, tmp_path) -> None:
    models = tmp_path / "models.toml"
    models.write_text('[models.prose]\nfamily = "prose"\n', encoding="utf-8")
    monkeypatch.setenv("INKWELL_MODELS_FILE", str(models))
    archives.build("prose")
    archives.index()
    assert main([str(archives.store), str(target)]) == 0
    assert "copied and checked: prose.mar" in capsys.readouterr().out
    assert main([str(target)]) == 2
    assert "two folders" in capsys.readouterr().err
    (archives.store / "index.json").write_text(json.dumps({"archives": {}}), encoding="utf-8")
    assert main([str(archives.store), str(target)]) == 7
    assert "is not listed" in capsys.readouterr().err
    archives.index()
    assert main([str(archives.store), str(tmp_path / "absent")]) == 1
    assert "absent" in capsys.readouterr().err
    models.write_text("nonsense", encoding="utf-8")
    assert main([str(archives.store), str(target)]) == 2
