"""What an engine leaves in the firewall is taken away, and nothing else."""

from __future__ import annotations

from proof_firewall import undoing

BEFORE = """*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:MINE - [0:0]
-A INPUT -i lo -j MINE
COMMIT
"""
AFTER = """*filter
:INPUT ACCEPT [5:7]
:FORWARD DROP [0:0]
:MINE - [0:0]
:OTHERS - [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
-A INPUT -i lo -j MINE
-A INPUT -j OTHERS
-A FORWARD -j DOCKER-USER
-A FORWARD -o br-0123456789ab -j DOCKER
COMMIT
*nat
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -s 10.213.1.0/24 ! -o eth0 -j MASQUERADE
COMMIT
"""


def test_only_what_the_engine_added_goes_and_rules_go_before_their_chains() -> None:
    assert undoing(BEFORE, AFTER) == [
        ["-t", "filter", "-D", "FORWARD", "-j", "DOCKER-USER"],
        ["-t", "filter", "-D", "FORWARD", "-o", "br-0123456789ab", "-j", "DOCKER"],
        ["-t", "filter", "-P", "FORWARD", "ACCEPT"],
        ["-t", "nat", "-D", "POSTROUTING", "-s", "10.213.1.0/24", "!", "-o", "eth0", "-j", "MASQUERADE"],
        ["-t", "filter", "-F", "DOCKER"],
        ["-t", "filter", "-X", "DOCKER"],
        ["-t", "filter", "-F", "DOCKER-USER"],
        ["-t", "filter", "-X", "DOCKER-USER"],
    ]


def test_an_unchanged_firewall_is_left_alone() -> None:
    assert undoing(BEFORE, BEFORE) == []
