"""What a Docker engine changes in the kernel's network, put back as it was."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_SWITCHES = (
    "net/ipv4/ip_forward",
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
)
# Docker's chains, its bridges, and the addresses that the engine was told to use.
_OURS = re.compile(r"DOCKER|\bbr-[0-9a-f]{12}\b|\b10\.213\.\d+\.\d+\b")

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True)
class Rules:
    """One table of `iptables-save`: chains with their policy (`-` for a user's own), and rules in order."""

    chains: dict[str, str]
    rules: tuple[str, ...]


def parse(saved: str) -> dict[str, Rules]:
    """Table name -> rules, of what `iptables-save` prints."""
    tables: dict[str, Rules] = {}
    for block in re.findall(r"^\*(\w+)\n(.*?)^COMMIT$", saved, re.MULTILINE | re.DOTALL):
        lines = block[1].splitlines()
        chains = {line[1:].split()[0]: line.split()[1] for line in lines if line.startswith(":")}
        tables[block[0]] = Rules(chains, tuple(line for line in lines if line.startswith("-A ")))
    return tables


def undoing(before: str, after: str) -> list[list[str]]:
    """Arguments of the iptables calls that take away what an engine added between two `iptables-save`.

    Rules of others that came meanwhile stay. Rules go first, then chains, since a chain in use cannot go.
    """
    old, calls, last = parse(before), list[list[str]](), list[list[str]]()
    for table, now in parse(after).items():
        was = old.get(table, Rules({}, ()))
        for rule in now.rules:
            if rule not in was.rules and _OURS.search(rule):
                calls.append(["-t", table, "-D", *rule.split()[1:]])
        for chain, policy in now.chains.items():
            if chain not in was.chains and policy == "-" and _OURS.search(chain):
                last += [["-t", table, "-F", chain], ["-t", table, "-X", chain]]
            elif policy in ("DROP", "ACCEPT") and policy != was.chains.get(chain, "ACCEPT"):
                calls.append(["-t", table, "-P", chain, was.chains.get(chain, "ACCEPT")])
    return calls + last


class Network:
    """The state of the kernel's network at the time this was made."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.switches = {name: _read(name) for name in _SWITCHES}
        self.saved = {tool: run(f"{tool}-save").stdout for tool in ("iptables", "ip6tables")}
        self.links = links()

    def restore(self) -> None:
        """Take away what an engine has added since; raises AssertionError where that did not succeed."""
        for tool, before in self.saved.items():
            for call in undoing(before, self.run(f"{tool}-save").stdout):
                self.run(tool, *call)
        for name, value in self.switches.items():
            if value is not None and _read(name) != value:
                (Path("/proc/sys") / name).write_text(value)
        left = [line for line in self.left() if line]
        assert not left, left

    def left(self) -> list[str]:
        """What is still there of an engine's."""
        rules = [
            f"{tool} {' '.join(call)}"
            for tool, before in self.saved.items()
            for call in undoing(before, self.run(f"{tool}-save").stdout)
        ]
        bridges = [name for name in links() - self.links if re.match(r"br-[0-9a-f]{12}$|docker", name)]
        switches = [
            name for name, value in self.switches.items() if value is not None and _read(name) != value
        ]
        return rules + bridges + switches


def links() -> set[str]:
    """Names of the network devices."""
    return {path.name for path in Path("/sys/class/net").iterdir()}


def _read(name: str) -> str | None:
    path = Path("/proc/sys") / name
    return path.read_text() if path.exists() else None
