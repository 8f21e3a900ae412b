"""A name that stands for several machines: found, followed, left alone when it has no address."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from api import places
from api.endpoints import Pool
from api.main import create_app
from api.places import Places
from api.settings import Settings

TWO = Settings(
    inference=["http://workers:8080"],
    management=["http://workers:8081"],
    model_inference={"names": ["http://names:8080"]},
    model_management={"names": ["http://names:8081"]},
    discover=True,
)


class Zone:
    """A DNS zone; `asked` holds the names in the order of the questions."""

    def __init__(self, **hosts):
        self.hosts = hosts
        self.asked = []

    async def __call__(self, host):
        self.asked.append(host)
        return self.hosts.get(host, [])


async def test_every_address_of_a_name_is_an_endpoint_in_the_same_order_on_both_ports():
    where = Places(TWO, Zone(workers=["10.0.0.1", "10.0.0.2"], names=["fd00::9"]))
    await where.look("prose")
    await where.look("names")
    assert sorted(where.inference("prose")) == ["http://10.0.0.1:8080", "http://10.0.0.2:8080"]
    assert where.management("prose") == [url.replace("8080", "8081") for url in where.inference("prose")]
    assert where.inference("names") == ["http://[fd00::9]:8080"]
    assert (where.found("prose"), where.found("names")) == (2, 1)


async def test_a_change_is_told_once_and_only_to_the_model_that_it_concerns():
    zone, changed = Zone(workers=["10.0.0.1"]), []
    where = Places(TWO, zone)
    where.on_change = changed.append
    for _ in range(3):
        await where.look("prose")
    assert changed == ["prose"]
    zone.hosts["workers"] = ["10.0.0.1", "10.0.0.3"]
    await where.look("prose")
    await where.look("names")
    assert changed == ["prose", "prose"]


async def test_gateways_begin_with_different_machines_and_each_keeps_its_order():
    many = [f"10.0.0.{n}" for n in range(40)]
    gateways = [Places(TWO, Zone(workers=many)) for _ in range(20)]
    for where in gateways:
        await where.look("prose")
    assert len({where.inference("prose")[0] for where in gateways}) > 5
    before = gateways[0].inference("prose")
    gateways[0]._resolve = Zone(workers=[*reversed(many), "10.0.0.99"])
    await gateways[0].look("prose")
    assert [url for url in gateways[0].inference("prose") if "99" not in url] == before


async def test_a_name_without_addresses_leaves_what_was_known():
    zone = Zone(workers=["10.0.0.1"])
    where = Places(TWO, zone)
    assert where.inference("prose") == ["http://workers:8080"]
    await where.look("prose")
    zone.hosts.clear()
    await where.look("prose")
    assert where.inference("prose") == ["http://10.0.0.1:8080"]


async def test_nothing_is_looked_up_unless_asked_for():
    zone = Zone(workers=["10.0.0.1"])
    where = Places(Settings(inference=["http://workers:8080"]), zone)
    await where.look("prose")
    assert zone.asked == []
    assert where.inference("prose") == ["http://workers:8080"]
    assert where.found("prose") is None


async def test_real_names_are_resolved():
    assert set(await places.addresses("localhost")) <= {"127.0.0.1", "::1"}
    assert await places.addresses("localhost")
    assert await places.addresses("no-such-name.invalid") == []


def test_settled_pool_keeps_the_targets_that_stay_and_drops_the_others():
    pool = Pool(["a", "b"], eject_s=60)
    pool.learn({"a": {"1.0": True, "1.0-w2": True}, "b": {"1.0": True}}, "1.0")
    stays = [target for target in pool.targets if target.url == "a"]
    stays[0].outstanding = 7
    pool.settle(["c", "a"])
    assert [target.url for target in pool.targets] == ["c", "a", "a"]
    assert pool.targets[1:] == stays
    assert pool.pick(None).url in ("c", "a")


@pytest.mark.parametrize(("addresses", "factor"), [(["127.0.0.1"], 1), (["127.0.0.1", "127.0.0.2"], 2)])
async def test_the_gateway_sends_as_much_as_the_machines_found_can_take(addresses, factor, tmp_path):
    (tmp_path / "models.toml").write_text('[models.prose]\nfamily = "prose"\nslots = 8\n', encoding="utf-8")
    app = create_app(
        Settings(models_file=tmp_path / "models.toml", discover=True, inference=["http://workers:1"]),
        httpx.MockTransport(lambda _: httpx.Response(503)),
    )
    gateway = app.state.gateway
    alone = gateway.batchers["prose"].limits
    gateway.places._resolve = Zone(workers=addresses)
    await gateway.catalog.state("prose", fresh=True)
    assert gateway.batchers["prose"].limits.inflight == factor * alone.inflight
    assert gateway.batchers["prose"].limits.spread == factor
    assert {t.url for t in gateway.worker.pool("prose").targets} == {f"http://{a}:1" for a in addresses}
    await gateway.worker.aclose()


async def test_a_job_follows_its_model_to_another_machine(worker, make_settings):
    """The name leads to a machine where nothing listens; a request waits, and is answered where it leads next."""
    port = worker.url.rsplit(":", 1)[1]
    zone = Zone(workers=["127.0.0.2"])
    where = [f"http://workers:{port}"]
    app = create_app(make_settings(inference=where, management=where, discover=True, allow_keyless=True))
    gateway = app.state.gateway
    gateway.places._resolve = zone
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=30) as client:
        await gateway.catalog.state("prose", fresh=True)
        body = {"inputs": "abc", "model": "prose", "parameters": {"max_new_tokens": 5, "details": True}}
        waiting = asyncio.create_task(client.post("/generate", json=body))
        give_up = time.monotonic() + 20
        while not gateway.batchers["prose"].inflight:
            assert time.monotonic() < give_up
            await asyncio.sleep(0.01)
        zone.hosts["workers"] = ["127.0.0.1"]
        await gateway.catalog.state("prose", fresh=True)
        answer = await waiting
    await gateway.stop()
    assert answer.status_code == 200, answer.text
    assert answer.json()["details"]["generated_tokens"] == 5
    assert worker.posts
