"""When LoraEndpoints are written, and what an API server that refuses or is away does to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import generate_latest

from lora_operator.informers.cache import Cluster
from lora_operator.informers.endpoints import Contents, HeldAdapter
from lora_operator.informers.pod_description import PodDefaults
from lora_operator.kube import write_queue as writes
from lora_operator.kube.client import KubeError
from lora_operator.kube.write_queue import Writes
from lora_operator.status import endpoint_writer
from lora_operator.status.endpoint_writer import WRITE, EndpointWriter
from lora_operator.telemetry.metrics import Metrics
from tests.core.api_server import ApiServer, an_api_server

PODS = "/apis/production-stack.vllm-project/v1alpha1/namespaces/ns/loraendpoints"


def holding(*names: str, pod: str = "p0") -> Contents:
    entries = tuple(HeldAdapter(name, name, "a" * 16, "la") for name in sorted(names))
    return Contents(f"uid-{pod}", "10.0.0.1:8000", "c", ("tiny",), entries)


class Desk:
    def __init__(self, api: ApiServer, pods: int) -> None:
        self.api = api
        self.metrics = Metrics()
        self.cluster = Cluster(PodDefaults())
        for number in range(pods):
            metadata = {"name": f"p{number}", "namespace": "ns", "uid": f"uid-p{number}", "resourceVersion": "1"}
            self.cluster.pods.put({"metadata": metadata})
        self.writes = Writes()
        self.writer = EndpointWriter(api.kube, self.cluster, self.writes, self.metrics)

    def offer(self, **contents: Contents | None) -> None:
        now = asyncio.get_running_loop().time()
        self.writer.offer({f"ns/{pod}": said for pod, said in contents.items()}, now)

    def written(self, pod: str = "p0") -> list[str]:
        """The adapters that the API server has for it."""
        return list(self.api.objects[f"{PODS}/{pod}"].get("adapters", ()))

    async def until(self, done: Callable[[], Any]) -> None:
        async with asyncio.timeout(20):
            while not done():  # noqa: ASYNC110 - what it waits for has no event
                await asyncio.sleep(0.005)

    async def idle(self) -> None:
        await self.until(lambda: self.writes.idle)


@asynccontextmanager
async def a_desk(pods: int = 1) -> AsyncIterator[Desk]:
    async with an_api_server() as api:
        desk = Desk(api, pods)
        try:
            yield desk
        finally:
            api.stall = None
            await desk.writes.stop(0.1)


async def test_what_is_new_is_written_once_and_costs_nothing_again() -> None:
    async with a_desk() as desk:
        for _ in range(5):
            desk.offer(p0=holding("sql"))
            await desk.idle()
        assert desk.api.calls == [("PATCH", f"{PODS}/p0")]
        assert desk.written() == ["sql"]
        assert desk.api.objects[f"{PODS}/p0"]["metadata"]["ownerReferences"][0]["uid"] == "uid-p0"


async def test_a_pod_that_never_held_anything_needs_no_object_and_one_that_did_says_so() -> None:
    async with a_desk() as desk:
        desk.offer(p0=holding())
        await desk.idle()
        assert desk.api.calls == []
        desk.offer(p0=holding("sql"))
        await desk.idle()
        desk.offer(p0=holding())
        await desk.idle()
        assert desk.written() == []


async def test_of_a_pod_of_which_nothing_is_known_what_was_written_stays() -> None:
    async with a_desk() as desk:
        desk.offer(p0=holding("sql"))
        await desk.idle()
        desk.offer(p0=None)
        await desk.idle()
        assert desk.written() == ["sql"]


async def test_what_comes_while_a_write_is_under_way_is_written_together() -> None:
    async with a_desk() as desk:
        stall = desk.api.stall = asyncio.Event()
        desk.offer(p0=holding("a"))
        await desk.api.until_calls(1)
        for last in ("b", "c", "d"):
            desk.offer(p0=holding("a", last))
        desk.api.stall = None
        stall.set()
        await desk.idle()
        assert (len(desk.api.calls), desk.written()) == (2, ["a", "d"])


async def test_somebody_elses_change_is_put_right() -> None:
    async with a_desk() as desk:
        desk.offer(p0=holding("sql"))
        await desk.idle()
        body = desk.api.objects[f"{PODS}/p0"] | {"adapters": {"evil": "x/y"}}
        desk.cluster.endpoints.put(desk.api.put(f"{PODS}/p0", body))
        desk.offer(p0=holding("sql"))
        await desk.idle()
        assert desk.written() == ["sql"]


async def test_flush_returns_when_what_was_offered_is_written_though_more_comes_all_the_time() -> None:
    async with a_desk() as desk:
        desk.offer(p0=holding("a", "b"))
        await desk.idle()
        stall = desk.api.stall = asyncio.Event()
        desk.offer(p0=holding("a"))
        await desk.api.until_calls(2)
        desk.offer(p0=holding("a", "c"))
        waiting = asyncio.create_task(desk.writer.flush("ns/p0"))
        await asyncio.sleep(0)
        assert not waiting.done()
        desk.api.stall = None
        stall.set()
        await waiting
        assert desk.written() == ["a", "c"]


async def test_flush_gives_a_pod_an_object_that_had_none_since_from_then_on_that_counts() -> None:
    async with a_desk() as desk:
        desk.offer(p0=holding())
        await desk.writer.flush("ns/p0")
        assert desk.written() == []
        await desk.writer.flush("ns/p0")
        assert len(desk.api.calls) == 1


async def test_it_is_known_what_routers_may_have_been_told() -> None:
    async with a_desk() as desk:
        assert not desk.writer.says("ns/p0", "sql")
        stall = desk.api.stall = asyncio.Event()
        desk.offer(p0=holding("sql"))
        await desk.api.until_calls(1)
        assert desk.writer.says("ns/p0", "sql") and not desk.writer.says("ns/p0", "chat")
        desk.api.stall = None
        stall.set()
        await desk.idle()
        assert desk.writer.says("ns/p0", "sql")
        desk.offer(p0=holding())
        assert desk.writer.says("ns/p0", "sql")
        await desk.idle()
        assert not desk.writer.says("ns/p0", "sql")


async def test_a_write_that_is_refused_backs_off_whatever_is_offered_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writes, "FIRST_PAUSE_SECONDS", 0.25)
    async with a_desk() as desk:
        desk.offer(p0=holding("a", "b"))
        await desk.idle()
        desk.api.refuse = [422]
        desk.offer(p0=holding("a"))
        await desk.api.until_calls(2)
        started = asyncio.get_running_loop().time()
        await desk.until(lambda: desk.writes.pausing((WRITE, "ns/p0")))
        for number in range(50):
            desk.offer(p0=holding("a" if number % 2 else "b"))
            await asyncio.sleep(0)
        assert len(desk.api.calls) == 2
        await desk.api.until_calls(3)
        assert asyncio.get_running_loop().time() - started >= 0.19
        await desk.idle()
        assert 'endpoint_writes_total{result="error"} 1.0' in generate_latest(desk.metrics.registry).decode()


async def test_flush_goes_on_where_the_api_server_refuses_and_raises_where_it_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writes, "FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(writes, "FLUSH_SECONDS", 0.2)
    monkeypatch.setattr(writes, "AWAY_SECONDS", 0.2)
    async with a_desk() as desk:
        desk.offer(p0=holding("a"))
        await desk.idle()
        desk.api.statuses[f"{PODS}/p0"] = 422
        desk.offer(p0=holding())
        await desk.writer.flush("ns/p0")
        desk.api.away = True
        with pytest.raises(KubeError):
            await desk.writes.tried((WRITE, "ns/p0"))
        with pytest.raises(KubeError):
            await desk.writer.flush("ns/p0")


async def test_of_a_pod_that_is_gone_nothing_is_written_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writes, "FIRST_PAUSE_SECONDS", 0.02)
    async with a_desk() as desk:
        desk.api.statuses[f"{PODS}/p0"] = 503
        desk.offer(p0=holding("a"))
        await desk.api.until_calls(2)
        desk.cluster.pods.drop({"metadata": {"namespace": "ns", "name": "p0", "uid": "uid-p0"}})
        await desk.idle()
        assert f"{PODS}/p0" not in desk.api.objects


async def test_where_many_pods_change_each_waits_the_longer_between_two_writes_and_withdrawals_do_not() -> None:
    async with a_desk(pods=40) as desk:
        pods = [f"p{number}" for number in range(40)]
        desk.offer(**{pod: holding("a", pod=pod) for pod in pods})
        await desk.idle()
        for number in range(20):
            names = ("a", *(f"b{n}" for n in range(number + 1)))
            desk.offer(**{pod: holding(*names, pod=pod) for pod in pods})
        written = len(desk.api.calls)
        last = {pod: holding("a", *(f"b{n}" for n in range(20)), pod=pod) for pod in pods}
        desk.offer(**last | {"p0": holding(pod="p0")})
        await desk.writer.flush("ns/p0")
        assert desk.written("p0") == []
        await desk.idle()
        assert desk.written("p7") == sorted(["a", *(f"b{n}" for n in range(20))])
        assert len(desk.api.calls) <= written + 2 * len(pods)


async def test_what_is_about_to_be_published_is_awaited_and_what_is_refused_is_not() -> None:
    async with a_desk() as desk:
        told = asyncio.Event()
        desk.writer._changed = told.set
        stall = desk.api.stall = asyncio.Event()
        desk.offer(p0=holding("sql"))
        assert desk.writer.awaits([("ns/p0", "sql")]) and not desk.writer.awaits([("ns/p0", "chat"), ("ns/p9", "sql")])
        await desk.api.until_calls(1)
        assert desk.writer.awaits([("ns/p0", "sql")]) and not told.is_set()
        desk.api.stall = None
        stall.set()
        await told.wait()
        assert not desk.writer.awaits([("ns/p0", "sql")])
        desk.api.statuses[f"{PODS}/p0"] = 422
        await desk.idle()
        told.clear()
        desk.offer(p0=holding("sql", "chat"))
        assert desk.writer.awaits([("ns/p0", "chat")])
        await told.wait()
        assert not desk.writer.awaits([("ns/p0", "chat")])


async def test_where_an_adapter_moves_the_pod_that_got_it_is_published_first() -> None:
    async with a_desk(pods=2) as desk:
        desk.offer(p0=holding("sql"), p1=holding("chat", pod="p1"))
        await desk.idle()
        before = len(desk.api.calls)
        for _ in range(3):  # the draft of p1 is not due yet when p0 gives the adapter up
            desk.writer._written_at["ns/p1"] = asyncio.get_running_loop().time() + 60.0
            desk.offer(p0=holding("sql"), p1=holding("chat", "sql", pod="p1"))
        desk.offer(p0=holding(), p1=holding("chat", "sql", pod="p1"))
        await desk.writer.flush("ns/p0")
        await desk.idle()
        assert [path for _, path in desk.api.calls[before:]] == [f"{PODS}/p1", f"{PODS}/p0"]


async def test_two_pods_that_swap_adapters_do_not_wait_for_each_other() -> None:
    async with a_desk(pods=2) as desk:
        desk.offer(p0=holding("a"), p1=holding("b", pod="p1"))
        await desk.idle()
        desk.offer(p0=holding("b"), p1=holding("a", pod="p1"))
        await desk.idle()
        assert (desk.written("p0"), desk.written("p1")) == (["b"], ["a"])


async def test_many_pods_that_give_up_what_others_got_leave_those_room_to_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(endpoint_writer, "FLUSH_SECONDS", 600.0)  # nobody goes on because a time is over
    pods = 3 * writes.AT_A_TIME
    async with a_desk(pods=2 * pods) as desk:
        old, new = [f"p{n}" for n in range(pods)], [f"p{n}" for n in range(pods, 2 * pods)]
        desk.offer(**{pod: holding(f"of-{pod}", pod=pod) for pod in old}, **{pod: holding(pod=pod) for pod in new})
        await desk.idle()
        before = len(desk.api.calls)
        moved = {to: holding(f"of-{pod}", pod=to) for pod, to in zip(old, new, strict=True)}
        desk.offer(**{pod: holding(pod=pod) for pod in old}, **moved)
        await desk.idle()
        written = [path.rpartition("/")[2] for _, path in desk.api.calls[before:]]
        assert sorted(written) == sorted([*old, *new])
        late = [pod for pod, to in zip(old, new, strict=True) if written.index(pod) < written.index(to)]
        assert not late


async def test_what_is_about_to_be_told_to_routers_counts_as_told() -> None:
    async with a_desk() as desk:
        desk.offer(p0=holding("a"))
        await desk.idle()
        desk.writer._written_at["ns/p0"] = asyncio.get_running_loop().time() + 60.0
        desk.offer(p0=holding("a", "b"))  # which is not due yet, and may be at any moment
        assert desk.writer.says("ns/p0", "b") and not desk.writer.says("ns/p0", "c")
        desk.offer(p0=holding("a"))
        assert not desk.writer.says("ns/p0", "b")
