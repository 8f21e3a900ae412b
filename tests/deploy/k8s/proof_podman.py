"""Debian's podman, unpacked into a folder: it builds the shipped images, runs rendered pods, and leaves nothing."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from pathlib import Path
from typing import Any

import proof_base
import proof_packages
import yaml

from deploy.k8s.parts import Object

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = (
    *("podman", "conmon", "runc", "catatonit", "golang-github-containers-common", "debootstrap"),
    *("golang-github-containers-image", "libgpgme11", "libassuan0", "libsubid4", "libdevmapper1.02.1"),
    *("libseccomp2", "libyajl2"),
)
CONFIG = """
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
conmon_path = ["{root}/usr/bin/conmon"]
helper_binaries_dir = ["{root}/usr/libexec/podman"]
[engine.runtimes]
runc = ["{root}/usr/sbin/runc"]
[containers]
default_ulimits = ["nofile={files}:{files}", "nproc=4096:4096"]
seccomp_profile = "{root}/usr/share/containers/seccomp.json"
apparmor_profile = ""
"""


class Podman:
    """Podman with storage and configuration of its own in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "pod"
        self._packages = folder / "podman" / "root"
        self._base = folder / "base"
        self._home = folder
        self.environment = os.environ | {
            "HOME": str(self._folder),
            "TMPDIR": str(self._folder),
            "PATH": f"{self._packages}/usr/bin:{self._packages}/usr/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LD_LIBRARY_PATH": f"{self._packages}/usr/lib/x86_64-linux-gnu",
            "CONTAINERS_CONF": str(self._folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self._folder / "storage.conf"),
            "CONTAINERS_REGISTRIES_CONF": str(self._folder / "registries.conf"),
        }

    def prepare(self) -> None:
        """Fetch the packages, and make the base image as the proof of the containers does."""
        proof_packages.fetch("bookworm", PACKAGES, self._home / "podman")
        if not self._base.is_dir():
            proof_base.build(self._packages, self._base)
        trust = self._folder / ".config/containers"
        trust.mkdir(parents=True, exist_ok=True)
        shutil.copy(self._packages / "etc/containers/policy.json", trust)
        files = min(65536, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        config = CONFIG.format(root=self._packages, files=files)
        (self._folder / "containers.conf").write_text(config, encoding="utf-8")
        (self._folder / "registries.conf").write_text(
            "unqualified-search-registries = []\n", encoding="utf-8"
        )
        places = f'graphroot = "{self._folder}/graph"\nrunroot = "{self._folder}/run"\n'
        storage = f'[storage]\ndriver = "overlay"\n{places}'
        (self._folder / "storage.conf").write_text(storage, encoding="utf-8")
        if self.run("image", "exists", proof_base.NAME, check=False).returncode != 0:
            way = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
            with subprocess.Popen(
                ["tar", "--directory", self._base, "--create", "."], stdout=subprocess.PIPE
            ) as tar:
                command = self._command(
                    "import", "--change", f"ENV {way}", "-", f"docker.io/library/{proof_base.NAME}"
                )
                subprocess.run(
                    command, stdin=tar.stdout, env=self.environment, check=True, capture_output=True
                )
            assert tar.returncode == 0

    def _command(self, *words: object) -> list[str]:
        own = self._folder
        program = shutil.which("podman", path=self.environment["PATH"])
        assert program is not None
        where = ("--root", f"{own}/graph", "--runroot", f"{own}/run", "--tmpdir", f"{own}/tmp")
        return [program, *where, "--network-config-dir", f"{own}/net", *map(str, words)]

    def run(
        self, *words: object, check: bool = True, given: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A podman command; raises RuntimeError with what it printed when it fails."""
        answer = subprocess.run(
            self._command(*words),
            env=self.environment,
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and answer.returncode != 0:
            said = answer.stdout[-3000:] + answer.stderr[-3000:]
            raise RuntimeError(f"podman {' '.join(map(str, words))} -> {answer.returncode}\n{said}")
        return answer

    def build(self, name: str, dockerfile: str, context: Path = ROOT, **arguments: str) -> None:
        """Build a shipped Dockerfile, unless that was done in this folder before."""
        if self.run("image", "exists", name, check=False).returncode == 0:
            return
        given = [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
        ignored = ROOT / f"deploy/docker/{dockerfile}.dockerignore"
        ignore = ["--ignorefile", str(ignored if ignored.exists() else ROOT / ".dockerignore")]
        where = ["--file", str(ROOT / "deploy/docker" / dockerfile), "--tag", name]
        self.run(
            "build",
            "--network",
            "host",
            "--pull=never",
            "--format",
            "docker",
            *ignore,
            *where,
            *given,
            context,
        )

    def play(self, *things: Object) -> None:
        """Run a pod, with the ConfigMaps it refers to, on a network that leads nowhere."""
        self.run("play", "kube", "--network", "none", "-", given=yaml.safe_dump_all(things))

    def inside(self, container: str, *command: str, check: bool = False) -> str:
        """What a command in a container prints."""
        answer = self.run("exec", container, *command, check=check)
        return answer.stdout + answer.stderr

    def inspect(self, container: str) -> dict[str, Any]:
        return dict(yaml.safe_load(self.run("container", "inspect", container).stdout)[0])

    def close(self, *, keep_images: bool) -> None:
        """End every pod; storage goes too, unless it is to be kept for the next time."""
        if not self._folder.is_dir():
            return
        self.run("pod", "rm", "--all", "--force", check=False)
        if not keep_images:
            self.run("system", "reset", "--force", check=False)
        for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
            place = line.split()[1]
            if place.startswith(str(self._folder)):
                subprocess.run(["umount", "--lazy", place], check=False)
