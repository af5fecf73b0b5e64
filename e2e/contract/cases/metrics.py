"""GET /metrics, as far as it is about adapters and load."""

from __future__ import annotations

import re
import time

from ..by_release import KV_GAUGES, SETS_IDENTICAL, WAITING_BY_REASON
from ..case import Cases, Place
from ..target import BASE, Target

cases = Cases()
_INFO = re.compile(
    r'^vllm:lora_requests_info\{max_lora="(\d+)",running_lora_adapters="(.*)",waiting_lora_adapters="(.*)"\} (\S+)$',
    re.M,
)


async def _page(t: Target) -> str:
    return (await t.get("/metrics")).text


@cases("lora_requests_info is absent until the first request", place=Place.FIRST, python_only=True)
async def nothing_is_said_of_adapters_before_the_first_request(t: Target) -> None:
    assert not _INFO.search(await _page(t))
    await t.must_load("a", t.fixture("lora"))
    assert not _INFO.search(await _page(t))
    await t.complete("a")
    assert _INFO.search(await _page(t))


@cases("gauge, value = unix time; old series never go; shows activity, not residency", python_only=True)
async def the_gauge_has_the_time_of_the_last_activity(t: Target) -> None:
    for name in ("m1", "m2", "m3"):
        await t.must_load(name, t.fixture("lora"))
    before = time.time()
    await t.complete("m1")
    await t.complete("m2")
    series = {running: (int(limit), float(value)) for limit, running, _, value in _INFO.findall(await _page(t))}
    assert "m3" not in series
    assert all(limit == 2 for limit, _ in series.values())
    assert before - 1 <= series["m1"][1] <= series["m2"][1] <= time.time() + 1
    await t.unload("m1")
    assert "m1" in {running for _, running, _, _ in _INFO.findall(await _page(t))}


@cases("running and waiting are always the same set, since 0.12", python_only=True)
async def running_and_waiting_are_the_same_set(t: Target) -> None:
    await t.must_load("m4", t.fixture("lora"))
    await t.complete("m4")
    sets = [(running, waiting) for _, running, waiting, _ in _INFO.findall(await _page(t)) if "m4" in running]
    assert sets
    assert all((running == waiting) is SETS_IDENTICAL[t.release] for running, waiting in sets)


@cases("a set keeps the time of the last step that it was busy at", python_only=True)
async def a_set_has_the_time_of_the_last_step_that_it_was_busy_at(t: Target) -> None:
    await t.must_load("m5", t.fixture("lora"))
    before = time.time()
    await t.complete("m5", max_tokens=200)
    series = {running: float(value) for _, running, _, value in _INFO.findall(await _page(t))}
    assert before < series["m5"] <= series[""]
    await t.complete("m5", max_tokens=2)
    again = {running: float(value) for _, running, _, value in _INFO.findall(await _page(t))}
    assert again["m5"] > series["m5"]


@cases("a request of a single token leaves no trace but the count of finished requests")
async def a_request_of_one_token_is_only_counted(t: Target) -> None:
    await t.must_load("m6", t.fixture("lora"))
    before = _finished(await _page(t))
    await t.complete("m6", max_tokens=1)
    page = await _page(t)
    assert _finished(page) == before + 1
    assert "m6" not in page


def _finished(page: str) -> float:
    found = re.findall(rf'^vllm:request_success_total\{{.*model_name="{BASE}".*\}} (\S+)$', page, re.M)
    return sum(float(value) for value in found)


@cases("a comma in a name breaks the metric", python_only=True)
async def a_comma_in_a_name_looks_like_two_names(t: Target) -> None:
    await t.must_load("x,y", t.fixture("lora"))
    await t.complete("x,y")
    assert 'running_lora_adapters="x,y"' in await _page(t)


@cases("num_requests_running and num_requests_waiting", python_only=True)
async def requests_are_counted(t: Target) -> None:
    page = await _page(t)
    for gauge in ("num_requests_running", "num_requests_waiting"):
        assert re.search(rf'^vllm:{gauge}\{{.*model_name="{BASE}".*\}} 0\.0$', page, re.M), gauge


@cases("num_requests_waiting_by_reason{reason=capacity|deferred}, since 0.20")
async def waiting_requests_have_a_reason(t: Target) -> None:
    reasons = set(re.findall(r'^vllm:num_requests_waiting_by_reason\{.*reason="(\w+)".*\}', await _page(t), re.M))
    assert reasons == ({"capacity", "deferred"} if WAITING_BY_REASON[t.release] else set())


@cases("kv_cache_usage_perc, gpu_cache_usage_perc before 0.12")
async def the_cache_gauge_has_the_name_of_the_release(t: Target) -> None:
    found = set(re.findall(r"^vllm:(\w+_cache_usage_perc)\{", await _page(t), re.M))
    assert found == KV_GAUGES[t.release]


@cases("no counter carries an adapter's name", python_only=True)
async def no_counter_carries_an_adapters_name(t: Target) -> None:
    await t.must_load("m-special", t.fixture("lora"))
    await t.complete("m-special")
    lines = [line for line in (await _page(t)).splitlines() if "m-special" in line]
    assert lines
    assert all(line.startswith("vllm:lora_requests_info{") for line in lines)
