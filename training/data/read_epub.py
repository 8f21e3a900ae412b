"""EPUB: a zip of XHTML pages in the order of the book's spine (EPUB 2 and 3)."""

from __future__ import annotations

import posixpath
import zipfile
from pathlib import Path
from urllib.parse import unquote
from xml.etree.ElementTree import Element

from training.data.blocks import Chapter, decoded, read_html, titled
from training.data.report import DropLog
from training.data.safe_xml import local, tree
from training.errors import DataError

CONTAINER = "META-INF/container.xml"
MOST_MEMBER_BYTES = 20_000_000
MOST_BYTES = 200_000_000
_PAGES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")


def read_epub(path: Path, log: DropLog) -> list[Chapter]:
    """Chapters of a book in reading order.

    Raises DataError for what is no EPUB, is locked (DRM), is too large, or holds no text.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive, path, log)
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: not an EPUB, which is a zip file ({error})") from None
    except (OSError, RuntimeError, NotImplementedError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"{path}: cannot be read ({reason})") from None


def _read(archive: zipfile.ZipFile, path: Path, log: DropLog) -> list[Chapter]:
    names = set(archive.namelist())
    if CONTAINER not in names:
        raise DataError(f"{path}: not an EPUB: it has no {CONTAINER}")
    total = sum(member.file_size for member in archive.infolist())
    if total > MOST_BYTES:
        raise DataError(f"{path}: unpacks to {total} bytes; {MOST_BYTES} are allowed")
    package = _package_path(tree(_member(archive, CONTAINER, path), f"{path}: {CONTAINER}"), path)
    root = tree(_member(archive, package, path), f"{path}: {package}")
    locked = _locked(archive, names, path)
    chapters = []
    for name, media in _spine(root, posixpath.dirname(package), path):
        if media not in _PAGES:
            log.drop("page", "not a page of text", f"{name} ({media or 'no media type'})")
        elif name not in names:
            log.drop("page", "named by the book and not in it", name)
        elif name in locked:
            raise DataError(f"{path}: {name} is encrypted; a book with DRM cannot be read")
        else:
            page = read_html(decoded(_member(archive, name, path)))
            chapter = titled(name, page.title, page.blocks)
            if chapter.blocks:
                chapters.append(chapter)
                log.file(name, f"page, {len(chapter.blocks)} blocks")
            else:
                log.drop("page", "no text", name)
    if not chapters:
        raise DataError(f"{path}: no page of this EPUB holds text")
    return chapters


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    """One file of the zip. The size in its directory may lie, so what is unpacked is counted."""
    try:
        with archive.open(name) as stream:
            data = stream.read(MOST_MEMBER_BYTES + 1)
    except KeyError:
        raise DataError(f"{path}: {name} is named by the book and not in it") from None
    except (zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{path}: {name} is broken ({error})") from None
    if len(data) > MOST_MEMBER_BYTES:
        raise DataError(f"{path}: {name} has more than {MOST_MEMBER_BYTES} bytes")
    return data


def _package_path(container: Element, path: Path) -> str:
    for element in container.iter():
        if local(element.tag) == "rootfile" and element.get("full-path"):
            return str(element.get("full-path"))
    raise DataError(f"{path}: {CONTAINER} names no package")


def _spine(package: Element, folder: str, path: Path) -> list[tuple[str, str]]:
    """(file, media type) of each page in reading order."""
    items: dict[str, tuple[str, str]] = {}
    order: list[str] = []
    for element in package.iter():
        kind = local(element.tag)
        if kind == "item" and element.get("id") and element.get("href"):
            href = unquote(str(element.get("href")).partition("#")[0])
            name = posixpath.normpath(posixpath.join(folder, href))
            items[str(element.get("id"))] = (name, element.get("media-type", ""))
        elif kind == "itemref" and element.get("linear", "yes") != "no":
            order.append(element.get("idref", ""))
    found = [items[reference] for reference in order if reference in items]
    if not found:
        raise DataError(f"{path}: the book's spine names no page")
    return found


def _locked(archive: zipfile.ZipFile, names: set[str], path: Path) -> set[str]:
    """Files that `META-INF/encryption.xml` calls encrypted; mangled fonts are among them and do no harm."""
    name = "META-INF/encryption.xml"
    if name not in names:
        return set()
    root = tree(_member(archive, name, path), f"{path}: {name}")
    return {
        unquote(str(element.get("URI"))) for element in root.iter() if local(element.tag) == "CipherReference"
    }
