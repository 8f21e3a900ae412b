"""A Docker engine of one's own: unpacked from Debian's packages, run as root in a folder, gone without a trace.

It shares nothing with an engine that may run on the machine: its socket, data, containerd and mounts are its own.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import proof_base
import proof_packages
from proof_firewall import Network

_SHARED = (Path("/run/containerd"), Path("/run/docker"))


class Engine:
    """An engine in `folder`, which should be short: sockets have paths of at most 107 bytes."""

    def __init__(self, folder: Path, figures: dict[str, str]) -> None:
        self.folder, self.figures = folder, figures
        self.packages = folder / "bookworm" / "root"
        self.tools = folder / "tools"
        self.socket = folder / "docker.sock"
        # Folders that every engine on a machine shares; those that were not there go again.
        self.made = [path for path in _SHARED if not path.exists()]
        self.process: subprocess.Popen[bytes] | None = None
        self.network: Network | None = None
        self.environment = os.environ | {
            "PATH": f"{self.tools}:{self.packages}/usr/bin:{self.packages}/usr/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LD_LIBRARY_PATH": f"{self.packages}/usr/lib/x86_64-linux-gnu:{self.packages}/lib/x86_64-linux-gnu",
            "XTABLES_LIBDIR": f"{self.packages}/usr/lib/x86_64-linux-gnu/xtables",
            "DOCKER_HOST": f"unix://{self.socket}",
            "DOCKER_CONFIG": str(folder / "config"),
            "DOCKER_BUILDKIT": "1",
            "BUILDKIT_PROGRESS": "plain",
        }

    def prepare(self) -> None:
        """Fetch the packages and build the base image's files, unless that was done in this folder before."""
        proof_packages.fetch("bookworm", proof_packages.ENGINE, self.folder / "bookworm")
        proof_packages.fetch("trixie", ("docker-compose",), self.folder / "trixie")
        self.tools.mkdir(exist_ok=True)
        for tool in ("iptables", "iptables-save", "iptables-restore"):
            for name in (tool, tool.replace("ip", "ip6", 1)):
                _link(self.tools / name, self.packages / "usr/sbin/xtables-nft-multi")
        plugins = self.folder / "config" / "cli-plugins"
        plugins.mkdir(parents=True, exist_ok=True)
        _link(plugins / "docker-compose", self._compose_binary())
        (self.folder / "daemon.json").write_text("{}", encoding="utf-8")
        base = self.folder / "base"
        if not base.is_dir():
            begun = time.monotonic()
            proof_base.build(self.packages, base)
            self.figures["debootstrap"] = f"{time.monotonic() - begun:.0f} s"

    def _compose_binary(self) -> Path:
        found = [
            path
            for path in (self.folder / "trixie/root").rglob("docker-compose")
            if path.is_file() and not path.is_symlink() and os.access(path, os.X_OK)
        ]
        assert found, "the package docker-compose holds no program"
        return found[0]

    def start(self) -> None:
        """Start the engine and wait until it answers; then the base image is there."""
        self.network = Network(self.run)
        log = (self.folder / "dockerd.log").open("ab")
        self.process = subprocess.Popen(
            [
                *("unshare", "--mount", "--propagation", "private"),
                *("dockerd", "--config-file", self.folder / "daemon.json", "--host", f"unix://{self.socket}"),
                *("--data-root", self.folder / "data", "--exec-root", self.folder / "exec"),
                *("--pidfile", self.folder / "dockerd.pid", "--bridge", "none", "--oom-score-adjust", "0"),
                *("--default-address-pool", "base=10.213.0.0/16,size=24"),
            ],
            env=self.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        log.close()
        until = time.monotonic() + 60
        while self.run("docker", "version", check=False).returncode != 0:
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(
                    "dockerd did not start:\n" + (self.folder / "dockerd.log").read_text()[-3000:]
                )
            time.sleep(0.2)
        if self.run("docker", "image", "inspect", proof_base.NAME, check=False).returncode != 0:
            with subprocess.Popen(
                ["tar", "--directory", self.folder / "base", "--create", "."], stdout=subprocess.PIPE
            ) as tar:
                subprocess.run(
                    ["docker", "import", "--change", 'CMD ["bash"]', "-", proof_base.NAME],
                    stdin=tar.stdout,
                    stdout=subprocess.DEVNULL,
                    env=self.environment,
                    check=True,
                )
            assert tar.returncode == 0

    def run(self, *words: object, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
        """A command in the engine's environment; raises RuntimeError with what it printed when it fails."""
        command = [str(word) for word in words]
        # Looked up here, since subprocess would look in this process's own PATH.
        command[0] = shutil.which(command[0], path=self.environment["PATH"]) or command[0]
        answer = subprocess.run(
            command,
            **{"env": self.environment, "capture_output": True, "text": True, "check": False} | options,  # type: ignore[call-overload]
        )
        if check and answer.returncode != 0:
            raise RuntimeError(
                f"{' '.join(command)} -> {answer.returncode}\n{answer.stdout[-4000:]}\n{answer.stderr[-4000:]}"
            )
        return answer

    def inspect(self, kind: str, name: str) -> dict[str, object]:
        """What `docker inspect` says of one object."""
        return dict(json.loads(self.run("docker", kind, "inspect", name).stdout)[0])

    def stop(self) -> None:
        """Remove containers and networks, end the engine, put the kernel's network back."""
        if self.process is None:
            return
        try:
            if self.process.poll() is None:
                for container in self.run("docker", "ps", "--all", "--quiet").stdout.split():
                    self.run("docker", "rm", "--force", "--volumes", container)
                self.run("docker", "network", "prune", "--force")
        finally:
            self._end()

    def _end(self) -> None:
        assert self.process is not None
        assert self.network is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self.process = None
        for path in self.made:
            shutil.rmtree(path, ignore_errors=True)
        self.network.restore()

    def processes(self) -> list[str]:
        """Processes that still run from this engine's folder."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and str(self.folder).encode() in (entry / "cmdline").read_bytes():
                    found.append(
                        (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    )
            except (FileNotFoundError, ProcessLookupError):
                continue
        return found


def _link(path: Path, target: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)
