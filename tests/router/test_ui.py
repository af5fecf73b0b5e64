"""The web view: what it is told, how it is served, and what people see of it in a real browser."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from e2e.world.browser import Tab, a_browser, a_tab
from lora_operator.planning.inflight import Effect, Ledger, Stage
from lora_operator.router.freshness import Freshness
from lora_operator.router.ui.fleet import Fleet as View
from lora_operator.router.ui.page import HEADERS
from lora_operator.router.ui.wire import FleetAnswer
from tests.router.fleet import NAMESPACE, Fleet
from tests.router.serving import Served, served

# one browser for the whole file
pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1 << 20
HOSTILE = "<img src=x onerror=window.taken=1>"
LIMITS = {"base-model": "llama", "lora-memory": "1Gi", "max-loras": "4", "max-cpu-loras": "8", "max-lora-rank": "32"}


class ShownFleet(Fleet):
    """A fleet with all that people see beside what routers do."""

    def vllm(self, name: str, ip: str, *, ready: bool = True, **limits: str) -> None:
        self.pod(name, ip, ready=ready, says=LIMITS | {key.replace("_", "-"): one for key, one in limits.items()})

    def told(
        self, resource: str, sizes: dict[str, tuple[int, int]], held: dict[str, list[str]],
        failed: dict[str, Any] | None = None, **options: Any,
    ) -> None:  # fmt: skip
        """`sizes`: adapter -> (MiB, replicas wanted); `held`: pod -> adapters."""
        noted = [
            {"name": name, "bytes": size * MIB, "rank": 8, "replicas": wanted,
             "loaded": sum(name in on for on in held.values())}
            for name, (size, wanted) in sizes.items()
        ]  # fmt: skip
        self.adapter(resource, {pod: {one: one for one in on} for pod, on in held.items()}, failed=failed,
                     **{"noted": noted, **options})  # fmt: skip


def a_shown_fleet() -> ShownFleet:
    """Three pods: `sql` on all, one of which is not ready; `chat` on the first; `big` has no place, `tone` waits for a
    pod, and `poet` is loaded on demand."""
    fleet = ShownFleet()
    fleet.vllm("vllm-0", "10.0.0.1")
    fleet.vllm("vllm-1", "10.0.0.2")
    fleet.vllm("vllm-2", "10.0.0.3", ready=False)
    fleet.pod("database-0", "10.0.0.9")
    held = {"vllm-0": ["chat", "sql"], "vllm-1": ["sql"], "vllm-2": ["sql"]}
    fleet.told("assistants", {"chat": (256, 1), "sql": (64, 3)}, held)
    whys = [{"pod": "vllm-0", "reason": "NotEnoughMemory", "message": "needs 900 MiB, 704 MiB are free"},
            {"pod": "vllm-1", "reason": "RankTooHigh", "message": "rank 64 exceeds 32"}]  # fmt: skip
    big = {"code": "NotEnoughMemory", "message": "needs 900 MiB, 704 MiB are free on 1 of 2 pods", "pods": whys}
    fleet.told("large", {"big": (900, 1)}, {}, {"big": big}, ready=("False", "NotEnoughMemory", "big"))
    fleet.told("later", {"poet": (8, 0)}, {}, ready=("False", "LoadOnDemand", "nothing is loaded yet"))
    fleet.told("patient", {"tone": (8, 1)}, {}, ready=("False", "PodNotReady", "tone: pod is not ready"))
    fleet.refresh()
    return fleet


async def fleet_of(api: Served, query: str = "") -> FleetAnswer:
    status, body, _ = await api.get(f"/v1/fleet{query}")
    assert status == 200, body
    return FleetAnswer.model_validate(body)


async def test_the_fleet_is_told_once_and_then_only_what_changed() -> None:
    fleet = a_shown_fleet()
    async with served(fleet) as api:
        whole = await fleet_of(api)
        assert whole.whole and whole.under_way is None and whole.api_server == "Reachable"
        # of pods that have nothing to do with adapters nothing is told
        assert [one.name for one in whole.pods] == ["vllm-0", "vllm-1", "vllm-2"]
        assert (whole.pods[0].memory_bytes, whole.pods[0].host_slots, whole.pods[0].base_models) == (
            1 << 30,
            8,
            ["llama"],
        )
        assert [one.state for one in whole.pods] == ["Ready", "Ready", "NotReady"]
        by_name = {one.name: one for one in whole.resources}
        assert [(one.name, one.bytes) for one in by_name["assistants"].adapters] == [
            ("chat", 256 * MIB),
            ("sql", 64 * MIB),
        ]
        assert [(one.pod, one.reason) for one in by_name["large"].failed[0].pods] == [
            ("vllm-0", "NotEnoughMemory"), ("vllm-1", "RankTooHigh"),
        ]  # fmt: skip

        same = await fleet_of(api, f"?since={whole.version}")
        assert (same.version, same.whole, same.pods, same.resources) == (whole.version, False, [], [])

        fleet.vllm("vllm-2", "10.0.0.3")
        fleet.drop_pod("vllm-1")
        fleet.drop_adapter("later")
        news = await fleet_of(api, f"?since={whole.version}")
        assert [(one.name, one.state) for one in news.pods] == [("vllm-2", "Ready")]
        assert [one.name for one in news.pods_gone] == ["vllm-1"]
        assert [one.name for one in news.resources_gone] == ["later"] and not news.resources

        for strange in ("other-3", f"{whole.version}0", "x"):
            assert (await fleet_of(api, f"?since={strange}")).whole


async def test_shows_pods_for_as_long_as_they_take_part_or_hold_something() -> None:
    fleet = a_shown_fleet()
    async with served(fleet) as api:

        async def shown() -> dict[str, bool]:
            """Pod -> whether it is being rid of what it holds; also to who asked before."""
            nonlocal version
            news, whole = await fleet_of(api, f"?since={version}"), await fleet_of(api)
            known.update({one.name: one.leaving for one in news.pods})
            for gone in news.pods_gone:
                del known[gone.name]
            version = news.version
            assert known == {one.name: one.leaving for one in whole.pods}
            return {name: leaving for name, leaving in known.items() if name != "vllm-2"}

        version, known = "", dict[str, bool]()
        assert await shown() == {"vllm-0": False, "vllm-1": False}
        fleet.pod("vllm-1", "10.0.0.2")  # without its label
        assert await shown() == {"vllm-0": False, "vllm-1": True}
        fleet.told("assistants", {"chat": (256, 1), "sql": (64, 3)}, {"vllm-0": ["chat", "sql"], "vllm-2": ["sql"]})
        assert await shown() == {"vllm-0": False}

        # one that has no label, and that status names, or a podSelector matches
        fleet.told("assistants", {"chat": (256, 1), "sql": (64, 3)}, {"vllm-0": ["chat", "sql"], "database-0": ["sql"]})
        assert await shown() == {"vllm-0": False, "database-0": True}
        labelled = fleet._metadata("plain-0", NAMESPACE) | {"labels": {"app": "plain"}}
        fleet.cluster.pods.put({"metadata": labelled, "spec": {"containers": [{"name": "vllm"}]}, "status": {}})
        fleet.told("assistants", {"chat": (256, 1), "sql": (64, 3)}, {"vllm-0": ["chat", "sql"]})
        assert await shown() == {"vllm-0": False}
        for label, found in (("plain", {"plain-0": False}), ("fancy", {})):
            spec = {
                "baseModel": "llama",
                "adapterSource": {"type": "local", "repository": "/models/x"},
                "deploymentConfig": {"podSelector": {"matchLabels": {"app": label}}},
            }
            fleet.cluster.adapters.put({"metadata": fleet._metadata("picky", NAMESPACE), "spec": spec})
            assert await shown() == {"vllm-0": False} | found


async def test_a_status_that_cannot_be_read_hides_nothing_of_the_others() -> None:
    fleet = a_shown_fleet()
    fleet.told("broken", {}, {}, noted=[{"rank": 8}, "odd"])
    async with served(fleet) as api:
        answer = await fleet_of(api)
        reasons = {one.name for one in answer.resources}
        assert "broken" in reasons and len(reasons) == 5


async def test_the_page_is_served_under_rules_that_allow_nothing_from_elsewhere() -> None:
    async with served(a_shown_fleet()) as api:
        async with api.session.get(f"{api.url}/ui", allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (308, "ui/")
        async with api.session.get(f"{api.url}/ui/") as answer:
            page = await answer.text()
            assert answer.headers.items() >= HEADERS.items()
        assert "default-src 'none'" in HEADERS["Content-Security-Policy"]
        assert not re.search(r"unsafe|https?:", HEADERS["Content-Security-Policy"])
        named = re.findall(r'(?:src|href)="([^#"]*)"', page)
        assert {"app.js", "layout.css", "icon.svg"} <= set(named)
        for name in named:
            async with api.session.get(f"{api.url}/ui/{name}") as answer:
                assert answer.status == 200 and "http" not in re.sub(r"http://www.w3.org/\S+", "", await answer.text())
                tag = {"If-None-Match": answer.headers["ETag"]}
            async with api.session.get(f"{api.url}/ui/{name}", headers=tag) as answer:
                assert answer.status == 304
        assert not re.search(r"<script(?! type=\"module\" src=)|<style|style=|\son\w+=", page)
        for path in ("/ui/nothing.js", "/ui/..%2fapi.py", "/ui/static/app.js"):
            assert (await api.get(path))[0] == 404


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with a_browser() as browser:
        yield browser


@asynccontextmanager
async def watched(
    browser: Browser, fleet: Fleet, fragment: str = "", **options: Any
) -> AsyncIterator[tuple[Tab, Served]]:
    """The page over this fleet, live; afterwards it must have complained of nothing and asked nobody else."""
    async with served(fleet) as api, a_tab(browser, f"{api.url}/ui/{fragment}", **options) as tab:
        await tab.live()
        await expect(tab.page.locator(".adapter").first).to_be_visible()
        yield tab, api
        assert not tab.errors and not tab.elsewhere()


async def matrix(tab: Tab) -> dict[tuple[str, str], str]:
    """(adapter, pod) -> state, of what is in sight."""
    found = await tab.page.locator(".cell").evaluate_all("all => all.map(one => ({...one.dataset}))")
    return {(one["adapter"].partition("/")[2], one["pod"].partition("/")[2]): one["state"] for one in found}


async def test_shows_which_adapter_is_where_how_full_pods_are_and_what_has_no_place(browser: Browser) -> None:
    async with watched(browser, a_shown_fleet()) as (tab, _):
        assert await matrix(tab) == {
            ("chat", "vllm-0"): "loaded", ("sql", "vllm-0"): "loaded", ("sql", "vllm-1"): "loaded",
            ("sql", "vllm-2"): "withheld", ("big", "vllm-0"): "refused", ("big", "vllm-1"): "refused",
        }  # fmt: skip
        pods = await tab.texts(".column")
        assert len(pods) == 3 and "320 MiB of 1 GiB" in pods[0] and "2 of 8 slots" in pods[0]
        states = await tab.page.locator(".adapter").evaluate_all("all => all.map(one => one.dataset.state)")
        assert states == ["notplaced", "loaded", "cold", "withheld", "waiting"]  # big, chat, poet, sql, tone
        legend = {
            mark.split()[-1]
            for mark in await tab.page.locator(".legend i").evaluate_all("all => all.map(i => i.className)")
        }
        assert legend >= {"loaded", "cold", "withheld", "waiting", "refused"}
        assert await tab.texts("#problems .problem summary .name") == ["big"]
        await tab.page.click("#problems .problem summary")
        await expect(tab.page.locator("#problems li").first).to_be_visible()
        whys = " ".join(await tab.texts("#problems li"))
        assert "vllm-0 NotEnoughMemory" in whys and "rank 64 exceeds 32" in whys


async def test_loads_and_unloads_appear_while_one_looks(browser: Browser) -> None:
    fleet = a_shown_fleet()
    async with watched(browser, fleet) as (tab, api):
        ledger = Ledger()
        fleet_view = api.api.fleet
        fleet_view.effects = ledger.on
        where = (f"{NAMESPACE}/vllm-1", "chat")
        load = Effect(*where, Stage.FETCHING, "k", "v", 256 * MIB, 8, "life", fetched_percent=50)
        ledger.begin(load)
        fleet.vllm("vllm-3", "10.0.0.4")  # pods that come and go are no part of the stream, nor is what is under way
        await expect(tab.page.locator(".column")).to_have_count(4)
        await expect(tab.page.locator(".cell.loading")).to_have_text("50 %")
        ledger.end(load)
        held = {"vllm-0": ["chat", "sql"], "vllm-1": ["chat", "sql"], "vllm-2": ["sql"]}
        fleet.told("assistants", {"chat": (256, 2), "sql": (64, 3)}, held)
        fleet.refresh()
        await expect(tab.page.locator(".cell.loaded[data-adapter$=chat]")).to_have_count(2)
        await expect(tab.page.locator(".column[data-pod$=vllm-1]")).to_contain_text("320 MiB of 1 GiB")

        ledger.begin(Effect(*where, Stage.WITHDRAWING, "k", "v", 256 * MIB, 8, "life"))
        held["vllm-1"] = ["sql"]
        fleet.told("assistants", {"chat": (256, 1), "sql": (64, 3)}, held)
        fleet.refresh()
        await expect(tab.page.locator(".cell.going")).to_have_attribute("data-pod", f"{NAMESPACE}/vllm-1")
        fleet_view.effects = Ledger().on
        await expect(tab.page.locator(".cell.going")).to_have_count(0)
        assert ("chat", "vllm-1") not in await matrix(tab)

        assert sum(url.endswith("/ui/") for url in tab.asked) == 1


async def test_says_since_when_it_is_cut_off_and_goes_on_by_itself(browser: Browser) -> None:
    async with watched(browser, a_shown_fleet()) as (tab, api):
        await expect(tab.page.locator("#age")).to_have_text(re.compile(r"table \d.* old"))
        await tab.page.context.set_offline(True)
        await expect(tab.page.locator("#link")).to_have_text(re.compile(r"disconnected since \d\d:\d\d:\d\d: "))
        assert len(await matrix(tab)) == 6  # what was known stays in sight
        for _ in range(2):
            api.freshness.missed("no answer")
        await tab.page.context.set_offline(False)
        await expect(tab.page.locator("#link")).to_have_text("API server does not answer")
        api.freshness.heard()
        await expect(tab.page.locator("#link")).to_have_text("live")
        tab.errors.clear()  # the browser's own words on requests that failed


async def test_a_page_that_stays_open_takes_what_a_newer_router_has_for_it(browser: Browser) -> None:
    async with watched(browser, a_shown_fleet()) as (tab, api):
        await tab.page.clock.install()
        await tab.page.reload()
        await tab.live()
        api.api._page.tag = "newer"
        async with tab.page.expect_event("load"):
            await tab.page.clock.fast_forward(61_000)
        await tab.live()


async def test_hostile_names_and_messages_are_nothing_but_text(browser: Browser) -> None:
    fleet = a_shown_fleet()
    bad = {"code": HOSTILE, "message": HOSTILE, "pods": [{"pod": HOSTILE, "reason": HOSTILE, "message": HOSTILE}]}
    fleet.told("evil", {HOSTILE: (1, 1)}, {"vllm-0": [HOSTILE]}, {HOSTILE: bad}, base_model=HOSTILE)
    fleet.vllm("vllm-4", "10.0.0.5", base_model=HOSTILE, max_loras=HOSTILE)
    fleet.refresh()
    async with watched(browser, fleet) as (tab, _):
        row = tab.page.locator(".adapter", has_text="onerror")
        await row.hover()
        await row.click()
        for one in await tab.page.locator("#problems summary").all():
            await one.click()
        assert HOSTILE in await tab.page.inner_text("#details") and HOSTILE in await tab.page.inner_text("#problems")
        assert await tab.page.inner_text("#tip")
        assert await tab.page.evaluate("[document.images.length, window.taken]") == [1, None]  # the icon
        # the browser itself would refuse what the scripts do not do
        refused = "() => { try { document.body.innerHTML = '<b>' } catch (error) { return error.name } }"
        assert await tab.page.evaluate(refused) == "TypeError"
        tab.errors.clear()


async def test_works_from_the_keyboard_alone(browser: Browser) -> None:
    async with watched(browser, a_shown_fleet()) as (tab, _):
        keys = tab.page.keyboard
        await tab.page.focus("#matrix")
        for key in ("ArrowDown", "ArrowDown", "ArrowDown", "End"):
            await keys.press(key)
        cursor = tab.page.locator("#cursor")
        await expect(cursor).to_have_attribute("aria-label", "sql on vllm-2: withheld; not ready")
        await keys.press("Enter")
        await expect(tab.page.locator("#details")).to_contain_text("sql on vllm-2")
        await keys.press("Escape")
        await expect(tab.page.locator("#details")).to_be_hidden()
        await keys.press("/")
        await keys.type("chat")
        await expect(tab.page.locator(".adapter")).to_have_count(1)
        await expect(tab.page.locator(".column")).to_have_count(1)
        assert tab.page.url.endswith("#text=chat")
        await keys.press("Escape")
        await expect(tab.page.locator(".adapter")).to_have_count(5)


async def test_whoever_goes_while_the_data_are_written_leaves_them_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = a_shown_fleet()
    shown = View(fleet.cluster, "epoch")
    began, go, at_a_time, most = threading.Event(), threading.Event(), 0, 0
    take = View._take

    def slowly(self: View, *what: Any) -> bool:
        nonlocal at_a_time, most
        at_a_time += 1
        most = max(most, at_a_time)
        began.set()
        go.wait(10)
        news = take(self, *what)
        at_a_time -= 1
        return news

    monkeypatch.setattr(View, "_take", slowly)
    first = asyncio.create_task(shown.answer(None, Freshness()))
    await asyncio.to_thread(began.wait, 10)
    first.cancel()
    second = asyncio.create_task(shown.answer(None, Freshness()))
    await asyncio.sleep(0)
    go.set()
    told = FleetAnswer.model_validate_json(await second)
    assert (most, told.version, len(told.pods)) == (1, "epoch-1", 3)
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_large_fleet_has_only_what_is_in_sight_in_the_document(browser: Browser) -> None:
    fleet = ShownFleet()
    for number in range(300):
        fleet.vllm(f"vllm-{number}", f"10.0.{number // 250}.{number % 250}")
    for number in range(2000):
        name = f"adapter-{number}"
        fleet.told(name, {name: (16, 1)}, {f"vllm-{number % 300}": [name]})
    fleet.refresh()
    async with watched(browser, fleet, "#state=loaded") as (tab, _):
        await expect(tab.page.locator("#corner")).to_have_text("2,000 × 300")
        assert await tab.page.locator(".tile").count() == 300
        assert await tab.page.locator("#matrix *").count() < 1000
        await tab.page.evaluate("document.querySelector('#matrix').scrollTo(1e6, 1e6)")
        await expect(tab.page.locator(".adapter").last).to_contain_text("adapter-1999")
        await expect(tab.page.locator(".column").last).to_have_attribute("data-pod", f"{NAMESPACE}/vllm-299")
        await tab.page.fill("#filter-text", "adapter-1777")
        await expect(tab.page.locator(".cell.loaded")).to_have_count(1)
