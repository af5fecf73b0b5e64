"""What is believed of an engine that hangs, fails, dies or is asked while something changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from e2e.vllm_sim import Engine, serve
from e2e.world.adapters import write_adapter
from lora_operator.engines.prober import Engines, Thresholds
from lora_operator.informers.records import PodRecord
from lora_operator.vllm.client import EngineClient, EngineModel, Timeouts, new_session
from lora_operator.vllm.engine_state import EngineState
from tests.core.builders import a_pod

KEY = "ns/p0"
UPDATING = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}


class Watched:
    """Engines that looks at one pod, whose engine comes and goes as a test wants."""

    def __init__(self) -> None:
        self.session = new_session()
        self.client = EngineClient(self.session, timeouts=Timeouts(probe=0.2, load=1.0))
        self.changes: list[str] = []
        self.gone: list[str] = []
        self.engines = Engines(
            self.client,
            self.changes.append,
            lambda pod, models: self.gone.extend(model.name for model in models),
            probe_seconds=0.01,
            probes_per_second=1000.0,
            thresholds=Thresholds(2, 0.3),
        )
        self.engine: Engine | None = None
        self.record = a_pod()

    async def serve(self, *flags: str, port: int = 0, **env: str) -> Engine:
        arguments = ["--model", "tiny", "--enable-lora", "--max-loras", "4", "--port", str(port)]
        quick = ["--sim-startup-seconds", "0", "--sim-load-seconds", "0"]
        self.engine = await serve([*arguments, *quick, *flags], UPDATING | env)
        pod = replace(self.record.pod, ip="127.0.0.1", port=self.engine.port)
        self.record = replace(self.record, pod=pod)
        return self.engine

    def sync_targets(self, record: PodRecord | None = None, key: str | None = None) -> None:
        self.record = record or self.record
        self.engines.sync_targets({KEY: self.record}, {KEY: key})

    @property
    def view(self) -> Any:
        return self.engines.views[KEY]

    async def until(self, done: Callable[[], Any]) -> None:
        async with asyncio.timeout(60):
            while not done():  # noqa: ASYNC110 - what it waits for has no event
                await asyncio.sleep(0.005)

    async def until_looked(self, times: int = 3) -> None:
        """Let so many further looks begin and end."""
        assert self.engine is not None
        calls = self.engine.journal.calls
        target = calls["models"] + times + 1
        await self.until(lambda: calls["models"] >= target)


@asynccontextmanager
async def watched() -> AsyncIterator[Watched]:
    made = Watched()
    try:
        yield made
    finally:
        if made.engine is not None:
            made.engine.faults.clear()
        await made.engines.stop()
        await made.session.close()
        if made.engine is not None:
            await made.engine.kill()


async def test_an_engine_that_answers_is_up_with_its_release() -> None:
    async with watched() as it:
        await it.serve("--release", "0.28.0")
        it.sync_targets()
        await it.until(lambda: it.view.state is EngineState.UP)
        assert (it.view.release, it.view.models) == ("0.28.0", ())


async def test_the_log_says_once_that_an_engine_is_gone_and_that_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "lora_operator.engines.prober")
    async with watched() as it:
        engine = await it.serve()
        it.sync_targets()
        await it.until(lambda: it.view.state is EngineState.UP)
        assert caplog.messages == []  # a fleet that is up when the operator starts is no news
        await engine.kill()
        await it.until(lambda: it.view.state is EngineState.STARTING)
        await it.serve("--release", "0.28.0", port=engine.port)
        await it.until(lambda: it.view.state is EngineState.UP)
        gone, back = caplog.records
        assert gone.levelname == "WARNING" and gone.getMessage().startswith(f"the engine of pod {KEY} does not answer")
        assert (back.levelname, back.getMessage()) == ("INFO", f"the engine of pod {KEY} answers, vLLM 0.28.0")
        caplog.clear()
        it.sync_targets(replace(it.record, pod=replace(it.record.pod, container_id="another")))
        await it.until(lambda: it.view.instance.endswith("another"))
        assert caplog.messages == [f"the engine of pod {KEY} has started anew, and has nothing loaded"]
        caplog.clear()
        it.sync_targets(replace(it.record, uid="of a new pod"))
        await it.until(lambda: it.view.instance.startswith("of a new pod"))
        assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
            ("INFO", f"pod {KEY} has given way to a new one of that name")
        ]


async def test_a_hang_is_a_suspicion_first_and_what_it_held_is_remembered(tmp_path: Path) -> None:
    async with watched() as it:
        engine = await it.serve()
        it.sync_targets()
        await it.until(lambda: it.view.state is EngineState.UP)
        path = str(write_adapter(tmp_path / "sql", base_model="tiny", rank=2))
        await it.client.load(it.engines.endpoint(KEY), "sql", path)
        await it.until(lambda: it.view.listed("sql"))
        engine.faults.add("hang", "all")
        await it.until(lambda: it.view.state is EngineState.SUSPECT)
        assert it.view.listed("sql") and it.view.reason == "EngineTimeout"
        await it.until(lambda: it.view.state is EngineState.DOWN)
        assert it.view.listed("sql")
        engine.faults.clear()
        await it.until(lambda: it.view.state is EngineState.UP)
        assert it.view.listed("sql") and not it.view.error
        assert it.gone == []


async def test_a_refused_connection_means_that_everything_is_forgotten(tmp_path: Path) -> None:
    async with watched() as it:
        engine = await it.serve()
        it.sync_targets()
        path = str(write_adapter(tmp_path / "sql", base_model="tiny", rank=2))
        await it.client.load(it.engines.endpoint(KEY), "sql", path)
        await it.until(lambda: it.view.listed("sql"))
        it.engines.note_settled(KEY)
        await engine.kill()
        await it.until(lambda: it.view.state is EngineState.STARTING)
        assert it.view.models == () and not it.view.has_served
        await it.serve(port=engine.port)
        await it.until(lambda: it.view.state is EngineState.UP)
        assert it.gone == []  # a restart is no drift


async def test_what_somebody_unloads_is_told_once(tmp_path: Path) -> None:
    async with watched() as it:
        await it.serve()
        it.sync_targets()
        path = str(write_adapter(tmp_path / "sql", base_model="tiny", rank=2))
        endpoint = it.engines.endpoint(KEY)
        await it.client.load(endpoint, "sql", path)
        await it.until(lambda: it.view.listed("sql"))
        await it.client.unload(endpoint, "sql")
        await it.until(lambda: not it.view.listed("sql"))
        await it.until_looked()
        assert it.gone == ["sql"]


async def test_a_look_that_overlaps_an_effect_of_ours_is_not_believed(tmp_path: Path) -> None:
    async with watched() as it:
        engine = await it.serve()
        it.sync_targets()
        await it.until(lambda: it.view.state is EngineState.UP)
        late = engine.faults.add("late", "models", times=1)  # the answer is made now, and comes after the load
        await it.until(lambda: late.hits)
        it.engines.touch(KEY)
        path = str(write_adapter(tmp_path / "sql", base_model="tiny", rank=2))
        await it.client.load(it.engines.endpoint(KEY), "sql", path)
        it.engines.note_loaded(KEY, it.view.instance, EngineModel("sql", path, "tiny"))
        it.engines.touch(KEY)
        late.cleared.set()
        await it.until_looked()
        assert it.view.listed("sql") and it.gone == []


async def test_a_probe_of_a_suspect_engine_that_overlaps_a_load_is_not_believed_either(tmp_path: Path) -> None:
    async with watched() as it:
        engine = await it.serve()
        it.sync_targets()
        await it.until(lambda: it.view.state is EngineState.UP)
        late = engine.faults.add("late", "models", times=1)
        await it.until(lambda: late.hits)
        it.engines.views[KEY] = replace(it.view, state=EngineState.SUSPECT, misses=1)
        it.engines.touch(KEY)
        path = str(write_adapter(tmp_path / "sql", base_model="tiny", rank=2))
        await it.client.load(it.engines.endpoint(KEY), "sql", path)
        it.engines.note_loaded(KEY, it.view.instance, EngineModel("sql", path, "tiny"))
        it.engines.touch(KEY)
        seen: list[bool] = []
        it.engines._changed = lambda _: seen.append(it.view.listed("sql") is not None)
        late.cleared.set()
        await it.until_looked()
        assert seen and all(seen) and it.view.state is EngineState.UP


async def test_a_load_that_is_confirmed_during_a_look_that_fails_is_not_lost() -> None:
    async with watched() as it:
        engine = await it.serve()
        it.sync_targets()
        await it.until(lambda: it.view.state is EngineState.UP)
        hang = engine.faults.add("hang", "models")
        await it.until(lambda: hang.hits)
        it.engines.note_loaded(KEY, it.view.instance, EngineModel("sql", "/adapters/sql/x", "tiny"))
        await it.until(lambda: it.view.state is EngineState.SUSPECT)
        assert it.view.listed("sql")


async def test_a_confirmation_from_an_earlier_life_counts_for_nothing() -> None:
    async with watched() as it:
        await it.serve()
        it.sync_targets()
        await it.until(lambda: it.view.state is EngineState.UP)
        it.engines.note_loaded(KEY, "another/life", EngineModel("sql", "/adapters/sql/x", "tiny"))
        assert it.view.models == ()
        it.engines.note_loaded("ns/nobody", "another/life", EngineModel("sql", "/adapters/sql/x", "tiny"))


async def test_a_container_that_does_not_run_is_down_and_no_news_twice() -> None:
    async with watched() as it:
        pod = replace(it.record.pod, container_running=False)
        it.sync_targets(replace(it.record, pod=pod))
        await it.until(lambda: it.view.state is EngineState.DOWN)
        since, changes = it.view.since, len(it.changes)
        for _ in range(20):
            it.engines.look_now(KEY)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert (it.view.since, len(it.changes)) == (since, changes)


async def test_a_pod_that_gets_its_address_late_is_looked_at_then() -> None:
    async with watched() as it:
        await it.serve()
        there = it.record
        it.engines._probe_seconds = 3600.0
        it.sync_targets(replace(there, pod=replace(there.pod, ip=None)))
        await it.until(lambda: it.view.state is EngineState.DOWN)
        it.sync_targets(there)
        await it.until(lambda: it.view.state is EngineState.UP)


async def test_a_key_that_is_given_later_is_used_at_once() -> None:
    async with watched() as it:
        await it.serve("--api-key", "s3cret-key")
        it.engines._probe_seconds = 3600.0
        it.sync_targets()
        await it.until(lambda: it.view.state is EngineState.DOWN)
        assert it.view.reason == "EngineUnauthorized"
        assert it.engines.refusing() == {KEY}
        it.sync_targets(key="s3cret-key")
        await it.until(lambda: it.view.state is EngineState.UP)
        assert it.engines.refusing() == set()
        assert "s3cret" not in repr(it.engines.endpoint(KEY)) + repr(it.view)


@pytest.mark.parametrize("fault", [{"kind": "status", "status": 503}, {"kind": "drop"}])
async def test_a_single_failed_look_moves_nothing(fault: dict[str, Any]) -> None:
    async with watched() as it:
        engine = await it.serve()
        it.sync_targets()
        await it.until(lambda: it.view.state is EngineState.UP)
        engine.faults.add(endpoint="models", times=1, **fault)
        await it.until_looked()
        await it.until(lambda: it.view.state is EngineState.UP)
        states = [it.view.state]
        assert EngineState.DOWN not in states


async def test_a_probe_of_a_machine_that_is_lost_does_not_keep_the_pod_that_replaces_it_from_being_seen() -> None:
    async with watched() as it:
        it.client = it.engines._client = EngineClient(it.session, timeouts=Timeouts(probe=600.0))
        lost = await it.serve()
        it.sync_targets()
        await it.until(lambda: it.view.state is EngineState.UP)
        hang = lost.faults.add("hang", "models")
        await it.until(lambda: hang.hits)
        await it.serve("--release", "0.28.0")
        pod = replace(it.record.pod, container_id="containerd://another")
        it.sync_targets(replace(it.record, uid="another", pod=pod))
        await it.until(lambda: it.view.release == "0.28.0")
        await lost.kill()


async def test_waiting_for_first_probes_ends_when_the_pod_goes() -> None:
    async with watched() as it:
        engine = await it.serve()
        engine.faults.add("hang", "all")
        it.client._timeouts = Timeouts(probe=60.0)
        it.sync_targets()
        waiting = asyncio.create_task(it.engines.first_probes(60.0))
        await it.until(lambda: engine.journal.calls["models"])
        it.engines.sync_targets({}, {})
        async with asyncio.timeout(60):
            await waiting
        assert it.engines.views == {}


async def test_a_pod_that_is_gone_has_no_endpoint() -> None:
    async with watched() as it:
        await it.serve()
        it.sync_targets()
        it.engines.sync_targets({}, {})
        with pytest.raises(Exception, match="is gone"):
            it.engines.endpoint(KEY)
        it.engines.touch(KEY)
        it.engines.look_now(KEY)
        it.engines.note_unloaded(KEY, "life", "sql")
        it.engines.note_disabled(KEY, "off")
        it.engines.note_settled(KEY)
        assert it.engines.views == {}


async def test_many_starting_engines_share_a_bounded_rate() -> None:
    async with watched() as it:
        records = {f"ns/p{n}": replace(a_pod(f"p{n}"), key=f"ns/p{n}") for n in range(100)}
        down = {key: replace(r, pod=replace(r.pod, ip="127.0.0.1", port=1)) for key, r in records.items()}
        it.engines.sync_targets(down, {})
        await it.until(lambda: all(v.state is EngineState.STARTING for v in it.engines.views.values()))
        assert it.engines._delay("ns/p0") >= 100 / 200


async def test_a_probe_that_finds_nothing_new_leaves_the_view_the_object_that_it_was() -> None:
    async with watched() as it:
        await it.serve()
        it.sync_targets()
        await it.until(lambda: it.view.state is EngineState.UP)
        view, changes = it.view, len(it.changes)
        await it.until_looked()
        assert it.view is view and len(it.changes) == changes


async def test_after_a_refused_connection_the_engine_is_asked_again_at_once_and_then_is_gone() -> None:
    async with watched() as it:
        engine = await it.serve()
        it.engines._probe_seconds = 3600.0
        it.sync_targets()
        await it.until(lambda: it.view.state is EngineState.UP)
        it.engines._tripwires.cut_all()
        it.engines.note_loaded(KEY, it.view.instance, EngineModel("sql", "/adapters/sql/x", "tiny"))
        await engine.kill()
        it.engines.look_now(KEY)
        await it.until(lambda: it.view.state is EngineState.STARTING)


async def test_probes_of_many_pods_begin_a_few_at_a_time_and_silent_ones_hold_up_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lora_operator.engines.prober.AT_A_TIME", 2)
    monkeypatch.setattr("lora_operator.engines.prober.PATIENT_SECONDS", 0.05)
    async with watched() as it:
        it.client._timeouts = Timeouts(probe=60.0)
        engine = await it.serve()
        engine.faults.add("hang", "models", times=4)
        records = {f"ns/p{n}": replace(it.record, key=f"ns/p{n}") for n in range(8)}
        it.engines.sync_targets(records, {})
        await it.until(lambda: sum(v.state is EngineState.UP for v in it.engines.views.values()) == 4)
        engine.faults.clear()
        await it.until(lambda: all(v.state is EngineState.UP for v in it.engines.views.values()))


async def test_a_look_that_a_load_overlaps_is_not_followed_by_another_at_once() -> None:
    async with watched() as it:
        engine = await it.serve()
        it.sync_targets()
        await it.until(lambda: it.view.state is EngineState.UP)
        it.engines._probe_seconds = 3600.0
        await it.engines.next_probe(KEY)
        late = engine.faults.add("late", "models", times=1)
        it.engines.look_now(KEY)
        await it.until(lambda: late.hits)
        it.engines.touch(KEY)
        calls = engine.journal.calls["models"]
        late.cleared.set()
        await asyncio.sleep(0.3)
        assert engine.journal.calls["models"] == calls
