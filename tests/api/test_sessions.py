"""What was given in a session: remembered within bounds, and shared by gateways through Redis while it is there.

The Redis is `fakeredis` behind a real port, and a real `redis-server` where one is installed.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest
import redis
from fakeredis import TcpFakeServer
from hypothesis import given, settings
from hypothesis import strategies as st

from api.keys import make_key
from api.sessions import Memory, Sessions, fingerprint
from api.settings import Settings
from api.shared_sessions import SharedSessionsError, redis_sessions
from deploy.ports import free_run

KEY = ("ada", "names", "s")
OTHER = ("bob", "names", "s")
MISSING = "redis-server is not installed (Debian: apt-get install redis-server)"


class Clock:
    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


def memory(**limits):
    return Memory(**({"max_sessions": 9, "max_texts": 9, "max_total": 99, "ttl_s": 60} | limits))


def claim(sessions, key, text):
    return sessions.claim(key, fingerprint(text))


# ---- this process's own memory ----


def test_a_text_is_given_once_whatever_its_case_and_surrounding_space():
    sessions = memory()
    assert claim(sessions, KEY, "Aldric the Grey")
    assert not claim(sessions, KEY, "  aldric  THE grey ")
    assert claim(sessions, OTHER, "Aldric the Grey"), "a session of that name under another key"


def test_a_session_is_forgotten_after_its_time():
    clock = Clock()
    sessions = memory(clock=clock)
    assert claim(sessions, KEY, "Aldric")
    clock.now += 59
    assert not claim(sessions, KEY, "Aldric")
    clock.now += 59
    assert not claim(sessions, KEY, "Aldric"), "its last use counts"
    clock.now += 61
    assert claim(sessions, KEY, "Aldric")
    clock.now += 61
    assert len(sessions) == sessions.texts == 0


def test_sessions_of_a_key_and_texts_of_a_session_are_bounded():
    sessions = memory(max_sessions=2, max_texts=2)
    for name in "abc":
        assert claim(sessions, ("", "m", name), "text")
    assert len(sessions) == 2
    assert claim(sessions, ("", "m", "a"), "text"), "the oldest session made room"
    for text in ("one", "two", "three"):
        claim(sessions, ("", "m", "x"), text)
    assert claim(sessions, ("", "m", "x"), "one"), "the oldest text made room"
    assert not claim(sessions, ("", "m", "x"), "three")


def test_who_fills_the_memory_loses_his_own_texts_and_nobody_elses():
    sessions = memory(max_total=20, max_texts=100, max_sessions=100)
    assert claim(sessions, OTHER, "Aldric")
    for number in range(200):
        claim(sessions, ("ada", "names", str(number % 7)), f"text {number}")
    assert sessions.texts == 20
    assert not claim(sessions, OTHER, "Aldric")


def test_a_released_text_can_be_given_again():
    sessions = memory()
    claim(sessions, KEY, "Aldric")
    sessions.release(KEY, fingerprint("aldric"))
    sessions.release(KEY, fingerprint("never claimed"))
    assert sessions.texts == 0
    assert claim(sessions, KEY, "Aldric")


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 4), st.integers(0, 30), st.booleans()), max_size=80
    )
)
def test_its_own_count_of_texts_is_right_and_never_above_the_bound(steps):
    clock = Clock()
    sessions = memory(max_sessions=2, max_texts=5, max_total=7, ttl_s=20, clock=clock)
    for caller, session, text, releases in steps:
        key = (caller, "m", str(session))
        (sessions.release if releases else sessions.claim)(key, fingerprint(str(text)))
        clock.now += 1
        held = [len(one.marks) for of in sessions._callers.values() for one in of.values()]
        assert sessions.texts == sum(held) <= 7
        assert all(len(of) <= 2 for of in sessions._callers.values())


# ---- shared through Redis ----


class FakeStore:
    """`fakeredis` on a port of the system's choice."""

    def __init__(self):
        self.port = 0
        self.start()

    def start(self):
        self._server = TcpFakeServer(("127.0.0.1", self.port))
        self.port = self._server.server_address[1]
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


class RealStore:
    """A `redis-server` that keeps nothing on disk."""

    def __init__(self):
        self.port = free_run(1)
        self.start()

    def start(self):
        command = [
            "redis-server",
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            "/",
        ]
        self._process = subprocess.Popen([*command, "--appendonly", "no"], stdout=subprocess.DEVNULL)
        with redis.Redis(port=self.port) as client:
            give_up = time.monotonic() + 20
            while True:
                try:
                    client.ping()
                    return
                except redis.ConnectionError:
                    assert self._process.poll() is None, "redis-server ended"
                    assert time.monotonic() < give_up, "redis-server does not answer"
                    time.sleep(0.02)

    def stop(self):
        self._process.terminate()
        self._process.wait(20)


STORES = [
    pytest.param(FakeStore, id="fakeredis"),
    pytest.param(
        RealStore,
        id="redis-server",
        marks=pytest.mark.skipif(shutil.which("redis-server") is None, reason=MISSING),
    ),
]


@pytest.fixture(params=STORES)
def store(request):
    """A Redis that can be stopped and started on its port."""
    started = request.param()
    yield started
    started.stop()


class Shared:
    """Sessions of one gateway among several, and what it tells of the store."""

    def __init__(self, port, **changes):
        limits = {"max_sessions": 9, "max_texts": 9, "ttl_s": 60}
        self.seen = []
        known = limits | {name: changes.pop(name) for name in list(changes) if name in limits}
        self.store = redis_sessions(
            f"redis://127.0.0.1:{port}/0",
            prefix="test",
            timeout_s=5.0,
            observe=self.seen.append,
            **known,
            **changes,
        )
        self.sessions = Sessions(Memory(max_total=99, **known), self.store)

    async def claim(self, text, key=KEY):
        return await self.sessions.claim(key, text)


@pytest.fixture
async def share(store):
    """Sessions of a gateway more, closed at the end."""
    made = []

    def another(**changes):
        made.append(Shared(store.port, **changes))
        return made[-1]

    yield another
    for one in made:
        await one.sessions.aclose()


async def test_two_gateways_know_what_either_has_given(share):
    one, two = share(), share()
    assert await one.claim("Aldric") == "shared"
    assert await two.claim("ALDRIC") is None
    assert await two.claim("Aldric", OTHER) == "shared"
    await one.sessions.release(KEY, ["Aldric"])
    assert await two.claim("Borin") == "shared"
    assert one.seen == [True, True]


async def test_of_many_gateways_that_claim_one_text_at_once_one_gets_it(share):
    gateways = [share(max_texts=99) for _ in range(4)]
    texts = [f"name {number}" for number in range(25)]
    given = await asyncio.gather(*(gateway.claim(text) for text in texts for gateway in gateways))
    by_text = [given[at : at + 4] for at in range(0, 100, 4)]
    assert [group.count("shared") for group in by_text] == [1] * 25
    assert [group.count(None) for group in by_text] == [3] * 25


async def test_what_lies_in_redis_is_bounded_expires_and_names_nobody(share, store):
    clock = Clock()
    shared = share(max_sessions=3, max_texts=4, ttl_s=50, clock=clock)
    for number in range(8):
        for text in range(6):
            clock.now += 0.001
            assert await shared.claim(f"text {text}", ("ada", "names", f"secret {number}")) == "shared"
    with redis.Redis(port=store.port) as client:
        keys = client.keys("*")
        assert len(keys) == 1 + 3, "the list of the key's sessions, and three of them"
        assert all(key.startswith(b"{test}:session") for key in keys)
        assert all(client.pttl(key) > 0 for key in keys)
        assert all(client.zcard(key) <= 4 for key in keys)
        assert all(
            len(mark) == 16 for key in keys if b":session:" in key for mark in client.zrange(key, 0, -1)
        )


async def test_while_redis_is_away_a_gateway_goes_on_and_tells_it_afterwards(share, store, monkeypatch):
    monkeypatch.setattr("api.shared_sessions._PAUSE_S", 0.0)
    one = share()
    assert await one.claim("before") == "shared"
    store.stop()
    assert await one.claim("meanwhile") == "gateway", "given, and not called new to all"
    assert await one.claim("before") is None, "its own memory holds"
    await one.sessions.release(KEY, ["nothing"])
    assert False in one.seen
    store.start()
    assert await one.claim("after") == "shared"
    two = share()
    assert await two.claim("meanwhile") is None, "Redis was told when it came back"


async def test_a_redis_that_has_failed_is_left_alone_for_a_while(monkeypatch):
    monkeypatch.setattr("api.shared_sessions._PAUSE_S", 3600.0)
    with socket.socket() as taken:  # bound and not listening: every connection is refused
        taken.bind(("127.0.0.1", 0))
        one = Shared(taken.getsockname()[1])
        for number in range(5):
            assert await one.claim(f"name {number}") == "gateway"
        assert one.seen == [False], "asked once, not five times"
        await one.sessions.aclose()


@pytest.mark.parametrize("url", ["localhost:6379", "http://127.0.0.1:6379", "redis://127.0.0.1:port/0"])
def test_an_address_that_is_none_is_refused_at_the_start(url):
    with pytest.raises(SharedSessionsError, match="redis_url must be an address of Redis"):
        redis_sessions(url, timeout_s=1.0)


def test_without_its_package_the_setting_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(SharedSessionsError, match=r"pip install 'inkwell\[redis\]'"):
        redis_sessions("redis://127.0.0.1", timeout_s=1.0)


def test_the_password_of_redis_is_not_shown():
    assert "geheim" not in repr(Settings(redis_url="redis://:geheim@127.0.0.1/0"))


# ---- gateways ----


def ask(base, token=None, **parameters):
    body = {"inputs": "a", "parameters": {"seed": 1, "max_new_tokens": 1, "session": "s", **parameters}}
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    return httpx.post(base + "/generate", json=body, headers=headers, timeout=30)


def metric(base):
    lines = httpx.get(base + "/metrics").text.splitlines()
    return [line for line in lines if line.startswith("inkwell_session_store_up{")]


def test_two_replicas_give_no_text_twice_in_a_session(serve, store):
    url = f"redis://127.0.0.1:{store.port}/0"
    bases = [serve(redis_url=url, redis_timeout_s=5.0) for _ in range(2)]
    given = []
    for turn in range(8):
        answer = ask(bases[turn % 2]).json()
        assert answer["details"]["session_scope"] == "shared"
        given.append(answer["generated_text"])
    assert len(set(given)) == 8
    assert metric(bases[0]) == ['inkwell_session_store_up{store="redis"} 1.0']


def test_a_replica_whose_redis_is_away_still_answers_and_says_what_it_knows(serve, store):
    base = serve(redis_url=f"redis://127.0.0.1:{store.port}/0", redis_timeout_s=5.0)
    first = ask(base).json()
    store.stop()
    answers = [ask(base) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert {answer.json()["details"]["session_scope"] for answer in answers} == {"gateway"}
    assert len({first["generated_text"], *(answer.json()["generated_text"] for answer in answers)}) == 4
    assert metric(base) == ['inkwell_session_store_up{store="redis"} 0.0']
    store.start()


def test_a_gateway_alone_says_that_it_is(base):
    answer = ask(base, session="a gateway alone").json()
    assert answer["details"]["session_scope"] == "gateway"
    assert metric(base) == []


def test_a_session_belongs_to_its_key_across_replicas(serve, store, tmp_path):
    tokens, lines = zip(*(make_key(name) for name in ("ada", "bob")), strict=True)
    (tmp_path / "keys").write_text("\n".join(lines))
    url = f"redis://127.0.0.1:{store.port}/0"
    one, two = (serve(key_file=tmp_path / "keys", redis_url=url, redis_timeout_s=5.0) for _ in range(2))
    first = ask(one, tokens[0]).json()["generated_text"]
    assert ask(two, tokens[1]).json()["generated_text"] == first, "new to another key"
    assert ask(two, tokens[0]).json()["generated_text"] != first
