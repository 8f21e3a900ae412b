"""A stand-in for the image that the Dockerfiles begin with, for machines that reach no registry.

It is what the published one is: a minimal Debian, without documentation, manuals and translations. What this
machine needs to reach its package indexes (certificates, pip's index) goes in here, never into a Dockerfile.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from proof_packages import KEYRING, MIRROR

SUITE = "bookworm"
NAME = "debian:bookworm-slim"
_LEFT_OUT = ("doc", "man", "locale", "info", "lintian", "linda", "groff", "doc-base")
_CERTIFICATES = Path("usr/local/share/ca-certificates")


def build(packages: Path, target: Path) -> None:
    """Write the root file system to the folder `target`, with debootstrap from the unpacked `packages`."""
    tree = target.with_suffix(".partial")
    shutil.rmtree(tree, ignore_errors=True)
    environment = os.environ | {"DEBOOTSTRAP_DIR": str(packages / "usr/share/debootstrap")}
    subprocess.run(
        # The mounts that debootstrap makes end with the name space.
        [
            *("unshare", "--mount", "--propagation", "private"),
            packages / "usr/sbin/debootstrap",
            *("--variant=minbase", f"--keyring={KEYRING}", SUITE, tree, MIRROR),
        ],
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    _slim(tree)
    _fit_to_machine(tree)
    tree.rename(target)


def _slim(tree: Path) -> None:
    for name in _LEFT_OUT:
        shutil.rmtree(tree / "usr/share" / name, ignore_errors=True)
        (tree / "usr/share" / name).mkdir()
    for folder in ("var/cache/apt", "var/lib/apt/lists", "var/log"):
        shutil.rmtree(tree / folder)
        (tree / folder).mkdir()
    rules = "".join(f"path-exclude /usr/share/{name}/*\n" for name in _LEFT_OUT)
    (tree / "etc/dpkg/dpkg.cfg.d/slim").write_text(rules, encoding="utf-8")
    (tree / "etc/apt/apt.conf.d/slim").write_text(
        'Acquire::Languages "none";\nDir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n'
        'APT::Keep-Downloaded-Packages "false";\n'
        'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };\n',
        encoding="utf-8",
    )
    (tree / "etc/apt/sources.list").write_text(
        f"deb {MIRROR} {SUITE} main\ndeb {MIRROR} {SUITE}-updates main\n"
        f"deb {MIRROR}-security {SUITE}-security main\n",
        encoding="utf-8",
    )


def _fit_to_machine(tree: Path) -> None:
    (tree / _CERTIFICATES).mkdir(parents=True)
    for certificate in Path("/", _CERTIFICATES).glob("*.crt"):
        shutil.copy(certificate, tree / _CERTIFICATES)
    lines = ["[global]", "cert = /etc/ssl/certs/ca-certificates.crt", "timeout = 120"]
    if index := pip_setting("index-url"):
        lines.append(f"index-url = {index}")
    (tree / "etc/pip.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")


def pip_setting(name: str) -> str:
    """What pip on this machine is told about `name` (as `find-links`); empty when it is not."""
    answer = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    found = ""
    for line in answer.stdout.splitlines():
        key, _, value = line.partition("=")
        if key.split(".")[-1] == name:
            # The environment is listed first and counts for more.
            found = found or value.strip("'\"")
    return found
