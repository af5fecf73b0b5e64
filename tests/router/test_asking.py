"""Who was asked for is recorded in few writes, none of which is lost without a word."""

from __future__ import annotations

import asyncio
import json

import pytest

from lora_operator.api.usage_record import CONFIG_MAP, MOST_ENTRIES, entry_of, key_of
from lora_operator.kube.lease import LeaseLost
from lora_operator.router import usage_recorder as asking_module
from lora_operator.router.usage_recorder import NotAccepted
from tests.router.recording import MAP, MAPS, NOW, an_asking, recorded


async def test_a_thousand_who_ask_for_one_adapter_make_one_write() -> None:
    async with an_asking() as (api, asking, clock):
        await asyncio.gather(*(asking.ask(("ns", "poet")) for _ in range(1000)))
        assert api.writes() == [MAP]
        assert recorded(api) == {("ns", "poet"): NOW}
        assert not asking.due(("ns", "poet"))
        clock.now += 30
        assert asking.due(("ns", "poet"))


async def test_adapters_that_are_asked_for_together_are_written_together() -> None:
    async with an_asking() as (api, asking, _):
        first = asyncio.create_task(asking.ask(("ns", "first")))
        await api.until_calls(1)
        await asyncio.gather(first, *(asking.ask(("ns", f"poet-{n}")) for n in range(500)))
        assert len(api.writes()) == 2
        assert len(recorded(api)) == 501


async def test_other_entries_of_the_record_stay_as_they_are() -> None:
    async with an_asking() as (api, asking, _):
        key, value = entry_of("ns", "theirs", NOW)
        api.objects[MAP]["data"] = {key: value}
        await asking.ask(("ns", "ours"))
        assert recorded(api).keys() == {("ns", "theirs"), ("ns", "ours")}
        assert api.bodies[-1]["data"].keys() == {key_of("ns", "ours")}


async def test_a_config_map_that_is_not_there_is_made() -> None:
    async with an_asking(there=False) as (api, asking, _):
        await asking.ask(("ns", "poet"))
        assert api.writes("POST") == [MAPS]
        assert recorded(api) == {("ns", "poet"): NOW}


async def test_where_it_may_not_be_made_the_flag_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async with an_asking(there=False) as (api, asking, _):
        for _ in range(2):
            api.refuse = [404, 403]
            with pytest.raises(NotAccepted, match="--requests-namespace") as caught:
                await asking.ask(("ns", "poet"))
            assert (caught.value.kind, caught.value.reason) == ("not-recorded", "ApiServerRefused")
        assert caplog.text.count("it cannot be recorded who was asked for") == 1


async def test_one_that_another_makes_at_the_same_time_is_written_to_all_the_same() -> None:
    async with an_asking() as (api, asking, _):
        api.refuse = [404, 409]
        await asking.ask(("ns", "poet"))
        assert [how for how, _ in api.calls] == ["PATCH", "POST", "PATCH"]
        assert recorded(api) == {("ns", "poet"): NOW}


async def test_while_the_api_server_is_away_whoever_asks_is_told_and_may_try_again() -> None:
    async with an_asking() as (api, asking, _):
        api.away = True
        asks = await asyncio.gather(*(asking.ask(("ns", "poet")) for _ in range(3)), return_exceptions=True)
        assert {type(one) for one in asks} == {NotAccepted} and {one.reason for one in asks} == {"ApiServerAway"}  # type: ignore[union-attr]
        assert asking.due(("ns", "poet")) and asking.loading == 0
        api.away = False
        await asking.ask(("ns", "poet"))
        assert recorded(api) == {("ns", "poet"): NOW}


async def test_a_standby_that_may_write_nothing_else_records_as_well() -> None:
    def refuse() -> None:
        raise LeaseLost("another leads")

    async with an_asking() as (api, asking, _):
        api.kube._fence = refuse
        await asking.ask(("ns", "poet"))
        assert recorded(api) == {("ns", "poet"): NOW}


async def test_use_of_what_is_loaded_is_recorded_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking_module, "REFRESH_BATCH_SECONDS", 0.02)
    async with an_asking() as (api, asking, clock):
        for _ in range(100):
            asking.used(("ns", "poet"))
            asking.used(("ns", "other"))
        await api.until_calls(1)
        await asking.ask(("ns", "new"))
        assert len(api.writes()) == 2
        assert recorded(api).keys() == {("ns", "poet"), ("ns", "other"), ("ns", "new")}
        clock.now += 99
        asking.used(("ns", "poet"))
        clock.now += 1
        asking.used(("ns", "poet"))
        await api.until_calls(3)
        assert api.bodies[-1]["data"].keys() == {key_of("ns", "poet")}


async def test_use_that_could_not_be_recorded_is_recorded_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking_module, "REFRESH_BATCH_SECONDS", 0.02)
    async with an_asking() as (api, asking, _):
        api.refuse = [500, 503]
        asking.used(("ns", "poet"))
        await api.until_calls(3)
        await asking.ask(("ns", "new"))
        assert recorded(api).keys() == {("ns", "poet"), ("ns", "new")}


async def test_more_than_a_bounded_number_of_adapters_is_not_loaded_at_a_time() -> None:
    async with an_asking() as (_, asking, clock):
        await asyncio.gather(*(asking.ask(("ns", f"poet-{n}")) for n in range(1000)))
        with pytest.raises(NotAccepted, match="1000 adapters are being loaded on demand already") as caught:
            await asking.ask(("ns", "one-more"))
        assert caught.value.kind == "too-many-loads"
        await asking.ask(("ns", "poet-7"))  # is among them
        asking.arrived(("ns", "poet-9"))
        await asking.ask(("ns", "one-more"))
        with pytest.raises(NotAccepted):
            await asking.ask(("ns", "another"))
        clock.now += 30
        await asking.ask(("ns", "another"))
        assert asking.loading == 1  # who asked for the others has not come again


async def test_a_full_record_takes_no_more_names_until_the_operator_has_made_room() -> None:
    async with an_asking() as (api, asking, clock):
        api.objects[MAP]["data"] = dict(entry_of("ns", f"old-{n}", NOW) for n in range(MOST_ENTRIES))
        await asking.ask(("ns", "old-0"))
        with pytest.raises(NotAccepted, match=f"ConfigMap system/{CONFIG_MAP} is full") as caught:
            await asking.ask(("ns", "new"))
        assert (caught.value.kind, caught.value.reason) == ("too-many-loads", "RecordFull")
        clock.now += 30
        await asking.ask(("ns", "old-0"))  # what is in it may be asked for again
        del api.objects[MAP]["data"][key_of("ns", "old-5")]
        await asking.ask(("ns", "new"))
        assert json.loads(api.objects[MAP]["data"][key_of("ns", "new")])["name"] == "new"


async def test_who_waits_for_a_write_is_let_go_when_the_router_stops() -> None:
    async with an_asking() as (api, asking, _):
        api.stall = asyncio.Event()
        waiting = asyncio.create_task(asking.ask(("ns", "poet")))
        await api.until_calls(1)
        asking.stop()
        with pytest.raises(NotAccepted, match="ask another replica"):
            await waiting
        with pytest.raises(NotAccepted, match="ask another replica"):
            await asking.ask(("ns", "poet"))


async def test_a_client_that_goes_does_not_take_the_record_from_the_others() -> None:
    async with an_asking() as (api, asking, _):
        api.stall = asyncio.Event()
        first, second = (asyncio.create_task(asking.ask(("ns", "poet"))) for _ in range(2))
        await api.until_calls(1)
        first.cancel()
        api.stall.set()
        await second
        assert recorded(api) == {("ns", "poet"): NOW}
