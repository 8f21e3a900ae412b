"""The small parts by themselves: clean-up, settings, keys, failures, endpoints."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from api.errors import Overloaded
from api.failures import Kind, failure_of
from api.keys import KeyFileError, parse_keys
from api.postprocess import post_process
from api.quotas import Quotas
from api.settings import Settings

STEPS = ("spacing", "quotes", "capitals")


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("the  cat sat .  it slept ,purring", "The cat sat. It slept, purring"),
        ('he said , " come here " and left .', 'He said, "come here" and left.'),
        ("it 's mine, i don ' t care", "It's mine, I don't care"),
        ("Mr. smith met A. jones. they ran", "Mr. smith met A. jones. They ran"),
        ("one\n two  \nthree", "One\nTwo\nThree"),
        ("( so it was )", "(So it was)"),
        ("no change needed... really", "No change needed... Really"),
        ("pi is 3.14,15", "Pi is 3.14,15"),
    ],
)
def test_clean_up(raw, clean):
    assert post_process(raw, STEPS) == clean


@settings(deadline=None)
@given(st.text(alphabet="ab iI.,!?\"' \n()tT-", max_size=40))
def test_clean_up_twice_is_clean_up_once(text):
    once = post_process(text, STEPS)
    assert post_process(once, STEPS) == once


@settings(deadline=None)
@given(st.text(max_size=60))
def test_clean_up_changes_no_letters(text):
    kept = [c for c in post_process(text, ("spacing", "quotes")) if c.isalnum()]
    assert kept == [c for c in text if c.isalnum()]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "gateway.test", ""])
def test_without_keys_only_loopback_may_be_bound(host):
    with pytest.raises(ValidationError, match="key_file"):
        Settings(host=host)
    assert Settings(host=host, allow_keyless=True).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_loopback_needs_no_keys(host):
    assert Settings(host=host).key_file is None


def test_settings_are_read_from_the_environment(monkeypatch):
    monkeypatch.setenv("INKWELL_INFERENCE", "http://a:8080/, http://b:8080")
    monkeypatch.setenv("INKWELL_MODEL_INFERENCE", '{"names": ["http://c:8080"]}')
    monkeypatch.setenv("INKWELL_DEADLINE_S", "7.5")
    settings = Settings()
    assert settings.inference == ["http://a:8080", "http://b:8080"]
    assert settings.model_inference == {"names": ["http://c:8080"]}
    assert settings.deadline_s == 7.5


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "eighty"), ("DEADLINE_S", "0"), ("INFERENCE", "localhost:8080"), ("LOG_LEVEL", "loud")],
)
def test_a_malformed_setting_is_an_error_that_names_it(monkeypatch, name, value):
    monkeypatch.setenv(f"INKWELL_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


def test_scrypt_keys_are_checked():
    salt = b"salt"
    digest = hashlib.scrypt(b"pass", salt=salt, n=16, r=8, p=1, dklen=32)
    (key,) = parse_keys(f"ada scrypt:16:8:1:{salt.hex()}:{digest.hex()} admin")
    assert key.caller.name == "ada"
    assert key.caller.admin
    assert key.check(b"pass")
    assert not key.check(b"Pass")


@pytest.mark.parametrize(
    "line", ["ada", "ada sha256:12", "ada md5:00", "ada scrypt:15:8:1:00:00", "ada sha256:zz", "a b c d"]
)
def test_a_bad_key_line_is_named_by_number_without_its_hash(line):
    with pytest.raises(KeyFileError, match=r"^line 2: "):
        parse_keys(f"# fine\n{line}\n")


@pytest.mark.parametrize(
    ("status", "message", "kind", "reason"),
    [
        (503, 'Model "x" has no worker to serve inference request.', Kind.BUSY, "no_worker"),
        (503, "Job queue is full", Kind.BUSY, "queue_full"),
        (503, "Prediction failed", Kind.BROKEN, "status_503"),
        (507, "CUDA out of memory", Kind.BROKEN, "out_of_memory"),
        (500, "Worker died.", Kind.BROKEN, "worker_died"),
        (404, "Model not found", Kind.BUSY, "not_registered"),
        (400, "Bad request", Kind.FAULT, "status_400"),
    ],
)
def test_statuses_of_torchserve_are_told_apart(status, message, kind, reason):
    failure = failure_of(status, json.dumps({"code": status, "type": "X", "message": message}).encode())
    assert (failure.kind, failure.reason, failure.message) == (kind, reason, message)


def test_an_error_body_that_is_no_json_is_quoted():
    assert failure_of(502, b"<html>bad gateway").message == "<html>bad gateway"


def test_a_rate_fills_up_again():
    clock = Clock()
    quotas = Quotas(max_streams=1, rate=2.0, clock=clock)
    for _ in range(4):
        quotas.admit("ada")
    with pytest.raises(Overloaded) as refusal:
        quotas.admit("ada")
    assert refusal.value.retry_after_s == pytest.approx(0.5)
    quotas.admit("bob")
    clock.now += 0.5
    quotas.admit("ada")
