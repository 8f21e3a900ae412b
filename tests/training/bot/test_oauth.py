"""Signatures, checked by an implementation of their own, and the PIN flow."""

from __future__ import annotations

import pytest

from training.bot.errors import AuthFailed, PlatformDown
from training.bot.oauth import Pair, PinFlow, authorization


def test_the_checking_implementation_gives_the_published_signatures(sign):
    # OAuth Core 1.0, appendix A.5, and X's guide to creating a signature.
    assert (
        sign(
            "GET",
            "http://photos.example.net/photos",
            [
                ("oauth_consumer_key", "dpf43f3p2l4k3l03"),
                ("oauth_token", "nnch734d00sl2jdk"),
                ("oauth_signature_method", "HMAC-SHA1"),
                ("oauth_timestamp", "1191242096"),
                ("oauth_nonce", "kllo9940pd9333jh"),
                ("oauth_version", "1.0"),
                ("file", "vacation.jpg"),
                ("size", "original"),
            ],
            "kd94hf93k423kf44",
            "pfkkdhi9sl3r4s00",
        )
        == "tR3+Ty81lMeYAr/Fid0kMTYa/WM="
    )
    assert (
        sign(
            "POST",
            "https://api.x.com/1.1/statuses/update.json",
            [
                ("status", "Hello Ladies + Gentlemen, a signed OAuth request!"),
                ("include_entities", "true"),
                ("oauth_consumer_key", "xvz1evFS4wEEPTGEFPHBog"),
                ("oauth_nonce", "kYjzVBB8Y0ZFabxSWbWovY3uYSQ2pTgmZeNu2VS4cg"),
                ("oauth_signature_method", "HMAC-SHA1"),
                ("oauth_timestamp", "1318622958"),
                ("oauth_token", "370773112-GmHxMAgYyLbNEtIKZeRNFsMKPR9EyMZeS9weJAEb"),
                ("oauth_version", "1.0"),
            ],
            "kAcSOqF21Fu85e7zjz7ZN2U4ZRhfV3WpwPAoE3Z7kBw",
            "LswwdoUaIvS8ltyTt5jkRh4J50vUPVVHtR2YPi5kE",
        )
        == "Ls93hJiZbQ3akF3HF3x1Bz8/zU4="
    )


def test_each_signature_is_new():
    pair = Pair("key", "secret")
    first, second = (authorization("POST", "https://example.org/2/tweets", pair, pair) for _ in range(2))
    assert first != second


def test_secrets_do_not_show():
    pair = Pair("key", "hidden")
    assert "hidden" not in repr(pair)
    header = authorization("POST", "https://example.org/2/tweets", pair, pair)["authorization"]
    assert "hidden" not in header


def test_the_pin_flow_gives_the_access_pair(x):
    flow = PinFlow(x.url, Pair(*x.consumer), 5)
    assert flow.begin() == f"{x.url}/oauth/authorize?oauth_token=request-token%2F%2B"
    access = flow.finish(" 0123456\n")
    flow.close()
    assert (access.pair.key, access.pair.secret) == x.access
    assert (access.screen_name, access.user_id) == ("inkwell_bot", "4711")
    assert [request.path for request in x.requests] == ["/oauth/request_token", "/oauth/access_token"]


def test_a_wrong_pin_is_told(x):
    flow = PinFlow(x.url, Pair(*x.consumer), 5)
    flow.begin()
    with pytest.raises(AuthFailed, match="refuses"):
        flow.finish("999")
    flow.close()


def test_a_wrong_consumer_secret_is_told(x):
    flow = PinFlow(x.url, Pair(x.consumer[0], "wrong"), 5)
    with pytest.raises(AuthFailed, match="wrong signature"):
        flow.begin()
    flow.close()


def test_a_lost_pin_answer_is_not_asked_for_again(x):
    flow = PinFlow(x.url, Pair(*x.consumer), 5)
    flow.begin()
    x.trouble.append("lose")
    with pytest.raises(PlatformDown):
        flow.finish(x.pin)
    flow.close()
    assert len(x.requests) == 2


def test_finishing_comes_after_beginning(x):
    flow = PinFlow(x.url, Pair(*x.consumer), 5)
    with pytest.raises(RuntimeError, match="begin comes before finish"):
        flow.finish("1")
    flow.close()
