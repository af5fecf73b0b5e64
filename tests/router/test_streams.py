"""The change stream: a snapshot, every change once, resumable; clients that are slow or dead cost nobody anything."""

from __future__ import annotations

import asyncio
import random
import socket

import aiohttp
import pytest

from lora_operator.router.streams import StreamLimits
from lora_operator.router.wire import ChangeEvent, Heartbeat, Reset, Snapshot, adapter_json
from tests.router.fleet import NAMESPACE, Fleet, a_fleet
from tests.router.serving import served


async def test_a_snapshot_comes_first_and_then_every_change() -> None:
    async with served(a_fleet()) as api, api.watch() as stream:
        event = await stream.of("snapshot")
        snapshot = Snapshot.model_validate(event.body)
        assert ([one.name for one in snapshot.adapters], snapshot.more) == (["chat", "sql"], False)
        assert event.identifier == snapshot.version == "e-2"
        api.fleet.pod("vllm-1", "10.0.0.2", terminating=True)
        api.fleet.refresh()
        event = await stream.of("change")
        change = ChangeEvent.model_validate(event.body)
        assert change.adapter is not None
        assert (change.type, change.name, [one.pod for one in change.adapter.pods]) == ("Set", "sql", ["vllm-0"])
        assert event.identifier == change.version == "e-3"
        api.fleet.drop_adapter("two")
        api.fleet.refresh()
        gone = {(await stream.of("change")).body["name"] for _ in range(2)}
        assert gone == {"chat", "sql"}


async def test_an_empty_table_has_an_empty_snapshot_that_can_be_resumed_from() -> None:
    async with served(Fleet(epoch="e")) as api, api.watch() as stream:
        assert await stream.adapters() == ({}, "e-0")


async def test_a_client_that_comes_again_gets_what_it_missed_and_no_more() -> None:
    async with served(a_fleet()) as api:
        async with api.watch() as stream:
            _, version = await stream.adapters()
        for ready in (False, True):
            api.fleet.pod("vllm-1", "10.0.0.2", ready=ready)
            api.fleet.refresh()
        for kind in ("header", "query"):
            query, last = ("", version) if kind == "header" else (f"?lastEventId={version}", "")
            async with api.watch(query, last) as stream:
                seen = [await stream.of("change") for _ in range(2)]
                assert [len(event.body["adapter"]["pods"]) for event in seen] == [1, 2]
                assert [event.identifier for event in seen] == ["e-3", "e-4"]


@pytest.mark.parametrize(
    ("last", "why"),
    [
        ("e-0", "the change log does not go back to e-0"),
        ("e-999", "the change log does not go back to e-999"),
        ("other-1", "other-1 is of another replica"),
        ("e-x", "e-x is no version"),
        ("e-" + "9" * 30, "is no version"),
        ("nonsense", "nonsense is of another replica"),
    ],
)
async def test_what_cannot_be_resumed_is_reset_and_begins_with_a_snapshot(last: str, why: str) -> None:
    async with served(a_fleet(log_length=1)) as api, api.watch("", last) as stream:
        reset = Reset.model_validate((await stream.of("reset")).body)
        assert (reset.status, why in reset.reason) == (410, True)
        adapters, version = await stream.adapters()
        assert (set(adapters), version) == ({"chat", "sql"}, "e-2")


async def test_a_client_that_the_log_has_overtaken_is_reset_in_mid_stream() -> None:
    fleet = a_fleet(log_length=2)
    async with served(fleet) as api, api.watch() as stream:
        await stream.adapters()
        for number in range(3):  # at once: the stream sees only the last
            fleet.pod("vllm-1", "10.0.0.2", ready=bool(number % 2))
            fleet.refresh()
        await stream.of("reset")
        assert len((await stream.adapters())[0]["sql"]["pods"]) == 1


async def test_a_selection_hears_of_nothing_else() -> None:
    fleet = a_fleet()
    fleet.adapter("other", {"vllm-0": {"poet": "poet"}}, base_model="qwen")
    fleet.refresh()
    async with served(fleet) as api, api.watch(f"?baseModel=qwen&namespace={NAMESPACE}") as stream:
        adapters, _ = await stream.adapters()
        assert set(adapters) == {"poet"}
        fleet.drop_adapter("two")
        fleet.refresh()
        fleet.adapter("other", {}, names=("poet",), base_model="qwen")
        fleet.refresh()
        assert (await stream.of("change")).body["adapter"]["pods"] == []
        # what is of another base model from now on is gone for those who asked for this one
        fleet.drop_adapter("other")
        fleet.adapter("heir", {"vllm-0": {"poet": "poet"}}, base_model="llama")
        fleet.refresh()
        event = await stream.of("change")
        assert (event.body["type"], event.body["name"], event.body.get("adapter")) == ("Deleted", "poet", None)


async def test_a_quiet_stream_tells_that_it_lives_and_how_old_the_table_is() -> None:
    async with served(a_fleet(), StreamLimits(heartbeat_seconds=0.05)) as api, api.watch() as stream:
        await stream.adapters()
        event = await stream.of("heartbeat")
        assert Heartbeat.model_validate(event.body).age_seconds == 0.0
        assert not event.identifier
        api.clock.now += 3
        while (await stream.of("heartbeat")).body["ageSeconds"] != 3.0:
            pass


async def test_what_changes_while_a_snapshot_is_read_comes_after_it() -> None:
    fleet = Fleet()
    fleet.pod("vllm-0")
    held = {f"a{number:04}": f"a{number:04}" for number in range(900)}
    fleet.adapter("many", {"vllm-0": held})
    fleet.refresh()
    async with served(fleet) as api, api.watch() as stream:
        first = await stream.of("snapshot")
        assert first.body["more"]
        fleet.pod("vllm-0", ready=False)
        fleet.refresh()
        state = {one["name"]: one for one in first.body["adapters"]}
        while len(state) < 900 or any(one["pods"] for one in state.values()):
            event = await stream.next()
            assert event is not None
            for one in event.body["adapters"] if event.kind == "snapshot" else [event.body["adapter"]]:
                state[one["name"]] = one
        assert state == {entry.name: adapter_json(entry) for entry in fleet.table.after()}


async def test_clients_that_come_and_go_all_end_with_the_same_table() -> None:
    chance = random.Random(5)
    fleet = a_fleet(log_length=40)

    async def follow() -> dict[str, object]:
        """Read, break off at some event, come again, until `done` and up to date."""
        state: dict[str, object] = {}
        last = ""
        while True:
            async with api.watch("", last) as stream:
                for _ in range(chance.randrange(1, 30)):
                    event = await stream.next()
                    if event is None:
                        break
                    if event.kind == "snapshot":
                        state = ({} if event.body["first"] else state) | {a["name"]: a for a in event.body["adapters"]}
                    elif event.kind == "change":
                        if event.body["type"] == "Set":
                            state[event.body["name"]] = event.body["adapter"]
                        else:
                            state.pop(event.body["name"], None)
                    last = event.identifier or last
                    if done.is_set() and last == fleet.table.tag:
                        return state

    async with served(fleet) as api:
        done = asyncio.Event()
        clients = [asyncio.create_task(follow()) for _ in range(5)]
        for number in range(200):
            held = {f"a{n}": f"a{n}" for n in chance.sample(range(8), 3)}
            fleet.adapter(f"la-{number % 3}", {"vllm-0": held})
            fleet.refresh()
            if number % 3 == 0:
                await asyncio.sleep(0)
        done.set()
        fleet.pod("vllm-1", "10.0.0.2", ready=False)
        fleet.refresh()
        wanted = {entry.name: adapter_json(entry) for entry in fleet.table.after()}
        async with asyncio.timeout(60):
            assert [await client for client in clients] == [wanted] * 5


async def test_a_client_that_does_not_read_is_cut_off_and_holds_nobody_up() -> None:
    fleet = Fleet(log_length=10_000)
    for number in range(20):
        fleet.pod(f"vllm-{number}", f"10.0.0.{number}")
    held = {f"a{number:04}": f"a{number:04}" for number in range(1000)}
    fleet.adapter("many", {f"vllm-{number}": held for number in range(20)})
    fleet.refresh()
    async with served(fleet, StreamLimits(slow_seconds=0.2)) as api:
        port = int(api.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.sendall(b"GET /v1/watch HTTP/1.1\r\nHost: x\r\n\r\n")
            async with api.watch(f"?namespace={NAMESPACE}") as stream:
                adapters, version = await stream.adapters()
                assert len(adapters) == 1000
                await api.until_metric('streams_ended_total{reason="TooSlow"} 1.0')
                # the other goes on, and whoever was cut off can come again
                fleet.pod("vllm-7", "10.0.0.7", ready=False)
                fleet.refresh()
                await stream.of("change")
            async with api.watch("", version) as stream:
                await stream.of("change")


async def test_clients_that_vanish_are_forgotten() -> None:
    async with served(a_fleet(), StreamLimits(heartbeat_seconds=0.02)) as api:
        async with api.watch() as stream:
            await stream.adapters()
            assert api.api.streams.open == 1
        await api.until_metric('streams_ended_total{reason="ClientGone"} 1.0')
        assert api.api.streams.open == 0


async def test_more_streams_than_are_allowed_are_refused() -> None:
    async with served(a_fleet(), StreamLimits(most=1)) as api, api.watch() as stream:
        await stream.adapters()
        status, body, headers = await api.get("/v1/watch")
        assert (status, body["type"]) == (503, "urn:lora-operator:router:too-many-streams")
        assert headers["Retry-After"] == "1"


async def test_streams_end_in_order_when_the_server_stops() -> None:
    async with served(a_fleet()) as api, api.watch() as stream:
        await stream.adapters()
        api.api.streams.stop()
        assert await stream.next() is None
        with pytest.raises(aiohttp.ClientError):
            async with api.watch() as again:
                while await again.next() is not None:
                    pass
                raise aiohttp.ClientError("it ended at once, as it should")
