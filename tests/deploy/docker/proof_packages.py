"""Debian packages unpacked into a folder: nothing is installed, no service is started, all of it can be deleted."""

from __future__ import annotations

import subprocess
from pathlib import Path

# What a Docker engine of Debian bookworm needs beyond the base system, libraries of iptables among it.
ENGINE = (
    *("docker.io", "containerd", "runc", "tini", "iptables", "debootstrap"),
    *("libdevmapper1.02.1", "libip4tc2", "libip6tc2", "libxtables12", "libmnl0"),
    *("libnetfilter-conntrack3", "libnfnetlink0", "libnftnl11"),
)
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR = "http://deb.debian.org/debian"


def fetch(suite: str, packages: tuple[str, ...], folder: Path) -> Path:
    """Unpack `packages` of the Debian release `suite` into `folder`/root, downloading them once.

    Returns the folder of their programs.
    """
    done, programs = folder / "fetched", folder / "root" / "usr" / "bin"
    if done.exists() and done.read_text() == f"{suite} {packages}":
        return programs
    for path in ("lists/partial", "cache/archives/partial", "debs", "root", "parts"):
        (folder / path).mkdir(parents=True, exist_ok=True)
    sources = folder / "sources.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {MIRROR} {suite} main\n", encoding="utf-8")
    # A package list of its own, so that this machine's apt neither helps nor is changed.
    options = [
        *("-o", f"Dir::Etc::SourceList={sources}"),
        *("-o", f"Dir::Etc::SourceParts={folder / 'parts'}"),
        *("-o", f"Dir::State::Lists={folder / 'lists'}"),
        *("-o", f"Dir::Cache={folder / 'cache'}"),
        *("-o", "Acquire::Languages=none", "-o", "APT::Sandbox::User=root", "-q"),
    ]
    subprocess.run(["apt-get", *options, "update"], check=True)
    subprocess.run(["apt-get", *options, "download", *packages], check=True, cwd=folder / "debs")
    for package in sorted((folder / "debs").glob("*.deb")):
        subprocess.run(["dpkg", "-x", package, folder / "root"], check=True)
    done.write_text(f"{suite} {packages}", encoding="utf-8")
    return programs
