"""Where models really run can be seen: in /models, in /info and in the metrics."""

from __future__ import annotations

import httpx

from api.catalog import ModelState, placement


def card(device, slots=8):
    return {"device": device, "slots": slots, "runtime": "torch", "version": "1.0"}


def test_each_worker_is_listed_with_its_device():
    cards = {
        ("http://b:8080", "1.0-w2"): card("cuda:1"),
        ("http://a:8080", "1.0"): card("cuda:0"),
        ("http://b:8080", "1.0"): card("cuda:0"),
    }
    found = placement(ModelState(cards=cards))
    assert [(one["version"], one["device"]) for one in found] == [
        ("1.0", "cuda:0"),
        ("1.0", "cuda:0"),
        ("1.0-w2", "cuda:1"),
    ]
    assert found[0]["slots"] == 8
    assert "http" not in str(found), "addresses of the inside stay inside"


def test_models_and_info_show_the_placement(serve, worker, second_worker):
    urls = [worker.url, second_worker.url]
    base = serve(inference=urls, management=urls)
    assert httpx.get(base + "/ready").status_code == 200
    one = httpx.get(base + "/models/prose").json()
    assert [place["device"] for place in one["placement"]] == ["cpu", "cpu"]
    assert {place["version"] for place in one["placement"]} == {"1.0"}
    assert httpx.get(base + "/info").json()["placement"] == {"prose": ["cpu", "cpu"], "names": ["cpu", "cpu"]}


def test_metrics_count_workers_by_device(serve, worker, second_worker):
    urls = [worker.url, second_worker.url]
    base = serve(inference=urls, management=urls)
    assert httpx.get(base + "/ready").status_code == 200
    page = httpx.get(base + "/metrics").text
    assert 'inkwell_workers_on_device{device="cpu",model="prose"} 2.0' in page
