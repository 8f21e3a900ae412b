from __future__ import annotations

import json
import shutil
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest

from deploy import store
from deploy.errors import ArchiveError, DiskFullError


@pytest.fixture
def mar(archives: Any) -> Path:
    path: Path = archives.build("prose")
    archives.index()
    return path


def verified(mar: Path) -> store.Archive:
    return store.verify(mar.parent, store.read_index(mar.parent), mar.name, "prose")


def test_listed_archive_is_accepted_and_described(mar: Path) -> None:
    archive = verified(mar)
    assert (archive.entry.version, archive.entry.memory_mb) == ("1.0", 20)
    assert archive.unpacked_bytes > 500


def test_changed_archive_is_refused(archives: Any, mar: Path) -> None:
    archives.add_member(mar, "extra.py")
    with pytest.raises(ArchiveError, match="has changed since it was built") as refused:
        verified(mar)
    assert "inkwell archive prose" in str(refused.value)


def test_unlisted_archive_is_refused(mar: Path) -> None:
    shutil.copy(mar, mar.parent / "other.mar")
    with pytest.raises(ArchiveError, match="not listed"):
        store.verify(mar.parent, store.read_index(mar.parent), "other.mar", "other")


def test_missing_archive_is_named(mar: Path) -> None:
    mar.unlink()
    with pytest.raises(ArchiveError, match=r"prose\.mar: is missing"):
        verified(mar)


def test_archive_of_another_model_is_refused(mar: Path) -> None:
    with pytest.raises(ArchiveError, match="holds the model 'prose', but 'names' is expected"):
        store.verify(mar.parent, store.read_index(mar.parent), mar.name, "names")


def test_manifest_must_agree_with_the_index(archives: Any, mar: Path) -> None:
    archives.index(model="names")
    with pytest.raises(ArchiveError, match="modelName = 'prose': must be 'names'"):
        store.verify(mar.parent, store.read_index(mar.parent), mar.name, "names")


@pytest.mark.parametrize("name", ["../evil.py", "/etc/evil", "a/../../evil", "..\\evil.py", "\\\\host\\evil"])
def test_path_that_leads_out_is_refused(archives: Any, mar: Path, name: str) -> None:
    archives.add_member(mar, name)
    archives.index()
    with pytest.raises(ArchiveError, match="leads out of the archive"):
        verified(mar)


def test_link_is_refused(archives: Any, mar: Path) -> None:
    link = zipfile.ZipInfo("passwords")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    archives.add_member(mar, link, "/etc/passwd")
    archives.index()
    with pytest.raises(ArchiveError, match="holds the link 'passwords'"):
        verified(mar)


@pytest.mark.parametrize(
    "field", ["handler", "serializedFile", "modelFile", "requirementsFile", "configFile"]
)
def test_manifest_path_that_leads_out_is_refused(archives: Any, mar: Path, field: str) -> None:
    with zipfile.ZipFile(mar) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members[store.MANIFEST])
    manifest["model"][field] = "../../evil.py"
    members[store.MANIFEST] = json.dumps(manifest).encode()
    with zipfile.ZipFile(mar, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    archives.index()
    with pytest.raises(ArchiveError, match=f"manifest field {field} ="):
        verified(mar)


@pytest.mark.parametrize("content", [b"no zip", b""])
def test_file_that_is_no_archive_is_refused(archives: Any, mar: Path, content: bytes) -> None:
    mar.write_bytes(content)
    archives.index()
    with pytest.raises(ArchiveError, match="is not a model archive"):
        verified(mar)


def test_zip_without_manifest_is_refused(archives: Any, mar: Path) -> None:
    with zipfile.ZipFile(mar, "w") as archive:
        archive.writestr("a.py", "")
    archives.index()
    with pytest.raises(ArchiveError, match="is not a model archive"):
        verified(mar)


def test_missing_index_says_how_to_build(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="inkwell archive --missing"):
        store.read_index(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"archives": 3}', '{"archives": {"a.mar": {}}}'])
def test_malformed_index_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(ArchiveError, match="not an index"):
        store.read_index(tmp_path)


def test_each_worker_gets_a_folder_with_its_own_version_and_settings(mar: Path, tmp_path: Path) -> None:
    target = tmp_path / "run"
    assert store.unpack(verified(mar), target, ["minWorkers: 1\n", "minWorkers: 2\n"]) == [
        "prose",
        "prose.w2",
    ]
    for folder, version, config in (("prose", "1.0", "1"), ("prose.w2", "1.0-w2", "2")):
        manifest = json.loads((target / folder / store.MANIFEST).read_text())["model"]
        assert (manifest["modelName"], manifest["modelVersion"]) == ("prose", version)
        assert manifest["configFile"] == store.MODEL_CONFIG
        assert (target / folder / store.MODEL_CONFIG).read_text() == f"minWorkers: {config}\n"
    handlers = [(target / folder / "prose_handler.py").stat().st_ino for folder in ("prose", "prose.w2")]
    assert handlers[0] == handlers[1]


def test_unpacking_again_removes_what_was_there(mar: Path, tmp_path: Path) -> None:
    target = tmp_path / "run"
    store.unpack(verified(mar), target, ["a", "b", "c"])
    (target / "prose" / "left_over.py").write_text("x = 1")
    store.unpack(verified(mar), target, ["a"])
    assert [path.name for path in target.iterdir()] == ["prose"]
    assert not (target / "prose" / "left_over.py").exists()


def test_full_disk_is_told_with_both_numbers(
    mar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.check_room(tmp_path, [verified(mar)])
    real = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: real._replace(free=5 * 2**20))
    with pytest.raises(DiskFullError, match=r"5 MiB free, 200 MiB needed"):
        store.check_room(tmp_path, [verified(mar)])
