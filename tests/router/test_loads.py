"""Loads of real (simulated) engines, and what they do to picks."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from e2e.vllm_sim import Engine, serve
from lora_operator.router.picker import Picker
from lora_operator.router.serving import Router
from lora_operator.router.traffic import NO_LOAD, OK, STALE_SECONDS, Ages, Loads, load_of
from lora_operator.router.traffic_metrics import LoadMetrics
from lora_operator.vllm.client import Endpoint, EngineClient, Timeouts
from lora_operator.vllm.metrics import EngineMetrics, parse_metrics
from tests.core.api_server import an_api_server
from tests.router.fleet import NAMESPACE, Fleet

QUICK = Timeouts(connect=1.0, metrics=0.5)


class Clock:
    """Real time, which a test can put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@dataclass
class Play:
    """A fleet whose pods have engines on loopback, and the loads that a router learns of them."""

    fleet: Fleet
    picker: Picker
    loads: Loads
    clock: Clock
    stack: AsyncExitStack
    results: Counter[str] = field(default_factory=Counter)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    engines: dict[str, Engine] = field(default_factory=dict)

    def count(self, result: str) -> None:
        self.results[result] += 1
        self.news.set()

    async def engine(self, pod: str, **says: str) -> Engine:
        flags = ["--model", "tiny", "--enable-lora", "--sim-startup-seconds", "0", "--sim-seconds-per-token", "0.02"]
        engine = self.engines[pod] = await serve([*flags, "--port", "0"])
        self.stack.push_async_callback(engine.stop)
        self.pod(pod, engine.port, **says)
        return engine

    def pod(self, name: str, port: int, **says: str) -> None:
        self.fleet.pod(name, "127.0.0.1", says={"port": str(port), "base-model": "tiny"} | says)

    def place(self, adapter: str, *pods: str) -> None:
        self.fleet.adapter(f"la-{adapter}", {pod: {adapter: adapter} for pod in pods}, base_model="tiny")
        self.see()

    def see(self) -> None:
        pods: set[str] = set()
        self.fleet.feed._pods_changed = pods.update
        self.fleet.refresh()
        self.picker.see(pods)

    async def busy(self, pod: str, requests: int) -> None:
        """So many requests that do not end while the test lasts, and the router knows."""
        session = await self.stack.enter_async_context(aiohttp.ClientSession())
        body = {"model": "tiny", "prompt": "x", "max_tokens": 100_000, "stream": True}
        for _ in range(requests):
            await self.stack.enter_async_context(session.post(f"{self.engines[pod].url}/v1/completions", json=body))
        await self.until(lambda: self.load(pod) == requests)

    def load(self, pod: str) -> float:
        """Requests there as far as picks go."""
        pool = self.picker.index.pool(f"{NAMESPACE}/tiny")
        assert pool is not None
        pool.refresh(self.clock())
        (slot,) = [slot for slot in pool.serving.slots if slot.pod == f"{NAMESPACE}/{pod}"]
        return pool.load(slot, self.clock())

    def pick(self, adapter: str, *avoid: str) -> str:
        entry = self.fleet.table.get(NAMESPACE, adapter)
        assert entry is not None
        found = self.picker.pick(entry, "", "", frozenset(avoid))
        assert found is not None
        return found.pod

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not done():
                self.news.clear()
                await self.news.wait()


@asynccontextmanager
async def a_play(period_seconds: float = 0.05) -> AsyncIterator[Play]:
    fleet, clock = Fleet(), Clock()
    picker = Picker(fleet.table, random.Random(1), clock, pods=fleet.cluster.pods.get)
    loads = Loads(
        picker.index, clock, period_seconds=period_seconds, counted=lambda result: play.count(result), timeouts=QUICK
    )
    async with AsyncExitStack() as stack:
        play = Play(fleet, picker, loads, clock, stack)
        task = asyncio.create_task(loads.run())
        yield play
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not loads._looks


async def test_picks_leave_the_busy_pod_alone() -> None:
    async with a_play() as play:
        for pod in ("vllm-0", "vllm-1"):
            await play.engine(pod)
        play.place("sql", "vllm-0", "vllm-1")
        await play.busy("vllm-1", 30)
        await play.until(lambda: play.load("vllm-0") == 0)
        assert {play.pick("sql") for _ in range(20)} == {"vllm-0"}


async def test_a_pod_whose_metrics_hang_goes_stale_and_counts_as_unknown_not_as_idle() -> None:
    async with a_play() as play:
        for pod in ("vllm-0", "vllm-1", "vllm-2"):
            await play.engine(pod)
        play.place("sql", "vllm-0", "vllm-1", "vllm-2")
        await play.busy("vllm-1", 8)
        await play.until(lambda: play.loads.ages().fresh == 3)
        assert play.load("vllm-0") == 0
        play.engines["vllm-0"].faults.add("hang", "metrics")
        await play.until(lambda: play.results["EngineTimeout"] > 0)
        play.clock.ahead += 1.01 * STALE_SECONDS
        await play.until(lambda: (play.loads.ages().fresh, play.loads.ages().stale) == (2, 1))
        assert (play.load("vllm-0"), play.load("vllm-1"), play.load("vllm-2")) == (4, 8, 0)
        assert play.pick("sql", "vllm-1") == "vllm-2"
        assert play.pick("sql", "vllm-2") == "vllm-0"
        play.engines["vllm-0"].faults.clear()
        play.clock.ahead += 30  # it is asked again in its turn
        await play.until(lambda: play.loads.ages().stale == 0)
        assert play.load("vllm-0") == 0


async def test_an_engine_that_fails_is_asked_less_and_less_and_at_once_when_its_pod_changes() -> None:
    async with a_play(period_seconds=0.01) as play:
        engine = await play.engine("vllm-0")
        engine.faults.add("status", "metrics", status=500)
        play.see()
        await play.until(lambda: play.results["EngineFailing"] >= 3)
        asked = engine.journal.calls["metrics"]
        play.clock.ahead += 100.0
        await play.until(lambda: play.results["EngineFailing"] > asked)
        (one,) = play.loads._watched.values()
        assert one.due - play.clock() > 4 * play.loads.period_seconds
        engine.faults.clear()
        one.due += 1000.0
        play.pod("vllm-0", engine.port, **{"max-cpu-loras": "7"})
        play.see()
        await play.until(lambda: play.load("vllm-0") == 0 and play.loads.ages().fresh == 1)


@asynccontextmanager
async def a_page(text: str) -> AsyncIterator[int]:
    """The port of a server that has this page instead of an engine's."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=text)

    app = web.Application()
    app.router.add_get("/metrics", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def test_what_is_no_engine_has_no_load_and_hurts_nobody() -> None:
    async with a_page("vllm:num_requests_running NaN\n<html>" * 9) as port, a_play() as play:
        await play.engine("vllm-0")
        play.pod("vllm-1", port)
        play.place("sql", "vllm-0", "vllm-1")
        await play.busy("vllm-0", 3)
        await play.until(lambda: play.results[NO_LOAD] > 0)
        assert (play.load("vllm-0"), play.load("vllm-1")) == (3, 3)
        assert play.results[OK] > 0


async def test_a_page_may_be_long_but_not_endless() -> None:
    line = "vllm:num_requests_running 4.0\n"
    async with a_page(line + "x" * 300_000) as long, a_page(line + "x" * (9 << 20)) as endless, a_play() as play:
        play.pod("vllm-0", long)
        play.pod("vllm-1", endless)
        play.see()
        await play.until(lambda: play.results[OK] > 0 and play.results["EngineAnswerInvalid"] > 0)
        assert play.load("vllm-0") == 4


async def test_the_answer_stays_a_holder_while_another_pod_has_room_and_the_wish_is_counted() -> None:
    async with a_play() as play:
        for pod in ("vllm-0", "vllm-1", "vllm-2"):
            await play.engine(pod)
        play.place("sql", "vllm-0")
        await play.busy("vllm-0", 30)
        await play.until(lambda: play.loads.ages().fresh == 3)
        assert [play.pick("sql") for _ in range(5)] == ["vllm-0"] * 5
        assert play.picker.spills_wanted == 5
        play.pod("vllm-1", play.engines["vllm-1"].port, **{"base-model": "other"})
        play.fleet.pod("vllm-2", "127.0.0.1", ready=False, says={"base-model": "tiny"})
        play.see()
        assert (play.pick("sql"), play.picker.spills_wanted) == ("vllm-0", 5)


async def test_a_pod_that_is_gone_is_asked_no_more_and_its_successor_starts_without_its_load() -> None:
    async with a_play() as play:
        for pod in ("vllm-0", "vllm-1"):
            await play.engine(pod)
        play.place("sql", "vllm-0", "vllm-1")
        await play.busy("vllm-0", 9)
        port = play.engines["vllm-0"].port
        play.engines["vllm-0"].faults.add("hang", "metrics")
        play.fleet.pod("vllm-0", "127.0.0.1", uid="another", says={"port": str(port), "base-model": "tiny"})
        play.see()
        await play.until(lambda: play.load("vllm-1") == 0)
        assert play.load("vllm-0") == 0
        play.fleet.drop_pod("vllm-1")
        play.see()
        play.loads._follow(play.clock())
        assert (play.loads.ages(), len(play.picker.index)) == (Ages(fresh=0, stale=1, oldest_seconds=0.0), 1)


def test_an_idle_engine_runs_no_adapter_whatever_it_shows() -> None:
    page = """
vllm:num_requests_running{engine="0"} %s
vllm:num_requests_waiting{engine="0"} 0.0
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:lora_requests_info{max_lora="4",running_lora_adapters="sql",waiting_lora_adapters=""} 1.7e+09
"""
    busy, idle = (load_of(parse_metrics(page % count), 5.0) for count in ("2.0", "0.0"))
    assert (busy.at, busy.running, busy.waiting, busy.kv_cache_usage, busy.max_loras) == (5.0, 2, 0, 0.25, 4)
    assert (busy.running_adapters, idle.running_adapters) == ({"sql"}, frozenset())
    assert load_of(EngineMetrics(), 0.0).requests is None


def test_a_large_fleet_is_asked_at_a_bounded_rate_that_keeps_loads_from_going_stale() -> None:
    fleet = Fleet()
    picker = Picker(fleet.table, clock=lambda: 0.0, pods=fleet.cluster.pods.get)
    loads = Loads(picker.index, lambda: 0.0, period_seconds=1.0, dice=random.Random(1))
    periods = []
    for count in (100, 500, 3000):
        for number in range(len(fleet.cluster.pods), count):
            fleet.pod(f"vllm-{number}", says={"base-model": "tiny"})
            picker.see([f"{NAMESPACE}/vllm-{number}"])
        loads._follow(0.0)
        periods.append(loads.period_seconds)
    assert periods == [1.0, 2.5, 4.0]
    due = sorted(one.due for one in loads._watched.values())
    assert due[0] < 0.1 and due[-1] > 3.9 and due[1500] == pytest.approx(2.0, abs=0.4)


def test_engines_are_asked_less_often_while_nobody_picks_and_soon_once_somebody_does() -> None:
    fleet, clock = Fleet(), Clock()
    picker = Picker(fleet.table, clock=clock, pods=fleet.cluster.pods.get)
    needed = True
    loads = Loads(picker.index, clock, period_seconds=1.0, needed=lambda: needed, timeouts=QUICK, dice=random.Random(1))
    for number in range(20):
        fleet.pod(f"vllm-{number}", says={"base-model": "tiny"})
        picker.see([f"{NAMESPACE}/vllm-{number}"])
    for needed, period in ((True, 1.0), (False, 8.0), (True, 1.0)):
        loads._notice_need(clock())
        loads._follow(clock())
        assert loads.period_seconds == period < STALE_SECONDS
        if not needed:
            for pod in loads._watched:
                loads.heard(pod, EngineMetrics(requests_running=0))
            dues = [one.due - clock() for one in loads._watched.values()]
            assert min(dues) >= 7.0 and max(dues) <= STALE_SECONDS - 1.0
    assert max(one.due for one in loads._watched.values()) <= clock() + 1.0


async def test_the_metrics_name_no_pod() -> None:
    async with a_play() as play:
        await play.engine("vllm-0")
        play.pod("vllm-1", 1)  # nobody listens there
        play.see()
        shown = LoadMetrics(play.loads.ages, lambda: play.picker.spills_wanted)
        registry = CollectorRegistry()
        registry.register(shown)
        await play.until(lambda: play.loads.ages().fresh == 1 and play.results["EngineUnreachable"] > 0)
        shown.looked |= play.results
        text = generate_latest(registry).decode()
        for line in (
            'lora_operator_router_pods{load="fresh"} 1.0',
            'lora_operator_router_pods{load="stale"} 1.0',
            "lora_operator_router_load_age_seconds ",
            'lora_operator_router_load_looks_total{result="Ok"} ',
            'lora_operator_router_load_looks_total{result="EngineUnreachable"} ',
            "lora_operator_router_spills_wanted_total 0.0",
        ):
            assert line in text
        assert "vllm-0" not in text


async def test_a_whole_router_asks_the_engines_of_its_table_and_tells_how_many_answer() -> None:
    fleet = Fleet()
    async with AsyncExitStack() as stack, an_api_server() as api:
        engine = await serve(["--model", "tiny", "--enable-lora", "--sim-startup-seconds", "0", "--port", "0"])
        stack.push_async_callback(engine.stop)
        fleet.pod("vllm-0", "127.0.0.1", says={"port": str(engine.port), "base-model": "tiny"})
        fleet.adapter("la", {"vllm-0": {"sql": "sql"}}, base_model="tiny")
        router = Router(fleet.cluster, api.kube, load_seconds=0.05)
        await router.start("127.0.0.1", 0)
        stack.push_async_callback(router.stop)
        router.listed()
        session = await stack.enter_async_context(aiohttp.ClientSession())
        text = ""
        async with asyncio.timeout(60):
            while 'lora_operator_router_pods{load="fresh"} 1.0' not in text:
                text = await (await session.get(f"http://127.0.0.1:{router.port}/metrics")).text()
        assert router.loads.ages().stale == 0
        found = router.api.picker.index.endpoint(f"{NAMESPACE}/vllm-0")
        assert found is not None and (found.host_slots, found.base_model) == (1, f"{NAMESPACE}/tiny")
        fleet.drop_pod("vllm-0")
        router.mark()
        async with asyncio.timeout(60):
            while 'lora_operator_router_pods{load="fresh"} 0.0' not in text:
                text = await (await session.get(f"http://127.0.0.1:{router.port}/metrics")).text()


async def test_looks_go_over_the_connections_that_somebody_else_has_to_the_engines() -> None:
    async with a_play(period_seconds=0.0) as play:
        engine = await play.engine("vllm-0")
        play.place("sql", "vllm-0")
        seen = Counter[str]()
        trace = aiohttp.TraceConfig()

        async def connected(*about: object) -> None:
            seen["connections"] += 1

        async def requested(*about: object) -> None:
            seen["requests"] += 1

        trace.on_connection_create_end.append(connected)
        trace.on_request_end.append(requested)
        session = await play.stack.enter_async_context(aiohttp.ClientSession(trace_configs=[trace]))
        await EngineClient(session).models(Endpoint("127.0.0.1", engine.port))
        lent = Loads(play.picker.index, play.clock, period_seconds=0.05, counted=play.count, session=session)
        running = asyncio.create_task(lent.run())
        await play.until(lambda: play.results[OK] >= 3)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert seen["requests"] >= 4 and seen["connections"] == 1
        assert not session.closed


async def test_no_engine_is_asked_where_the_period_is_nothing() -> None:
    async with a_play(period_seconds=0.0) as play:
        engine = await play.engine("vllm-0")
        play.place("sql", "vllm-0")
        for _ in range(100):
            await asyncio.sleep(0)
        assert play.pick("sql") == "vllm-0"
        assert (engine.journal.calls["metrics"], play.loads.ages()) == (0, Ages(0, 0, 0.0))


async def test_a_page_that_somebody_else_has_read_counts_and_is_not_read_again_at_once() -> None:
    async with a_play(period_seconds=4.0) as play:
        engine = await play.engine("vllm-0")
        play.place("sql", "vllm-0")
        play.loads._follow(play.clock())
        play.loads.heard(f"{NAMESPACE}/vllm-0", EngineMetrics(requests_running=3, requests_waiting=2))
        assert (play.load("vllm-0"), engine.journal.calls["metrics"]) == (5, 0)
        assert play.loads._watched[f"{NAMESPACE}/vllm-0"].due > play.clock() + 3.0
        play.loads.heard(f"{NAMESPACE}/nobody", EngineMetrics(requests_running=3))
        assert play.results == {OK: 1}
