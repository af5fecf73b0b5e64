"""The web view in a real browser over a running operator: it shows what kubectl says, as it happens."""

from __future__ import annotations

import json
import re
from pathlib import Path

from playwright.async_api import expect

from e2e.behaviours.worlds import Worlds
from e2e.controlplane.processes import free_ports
from e2e.world import World
from e2e.world.browser import Tab, a_browser, a_tab


def by_kubectl(world: World) -> set[tuple[str, str]]:
    """(adapter, pod), of all that answers."""
    items = json.loads(world.kubectl("get", "la", "-o", "json"))["items"]
    held = [one for item in items for one in item["status"].get("podAssignments", ())]
    return {(adapter, one["pod"]) for one in held for adapter in one["adapters"]}


async def shown(tab: Tab) -> set[tuple[str, str]]:
    """The same, as the page has it."""
    cells = await tab.page.locator(".cell.loaded").evaluate_all("all => all.map(one => ({...one.dataset}))")
    return {(one["adapter"].partition("/")[2], one["pod"].partition("/")[2]) for one in cells}


async def test_shows_what_kubectl_says_as_it_changes_and_outlives_its_server(worlds: Worlds, tmp_path: Path) -> None:
    port = free_ports(1)[0]
    async with a_browser() as browser:
        world = worlds(2, operator=("--router-port", str(port)))
        for name in ("sql", "chat"):
            world.adapter(name)
        world.adapter("wide", rank=32)
        world.apply("sql", "sql", deployment={"replicas": 2})
        world.wait_ready("sql")
        async with a_tab(browser, f"http://127.0.0.1:{port}/ui/") as tab:
            await tab.live()
            loaded = tab.page.locator(".cell.loaded")
            await expect(loaded).to_have_count(2)
            assert await shown(tab) == by_kubectl(world) == {("sql", "vllm-0"), ("sql", "vllm-1")}

            world.apply("chat", "chat")
            await expect(tab.page.locator(".cell.loaded[data-adapter$='/chat']")).to_have_count(1)
            world.wait_ready("chat")
            assert await shown(tab) == by_kubectl(world)

            world.apply("wide", "wide")
            await expect(tab.page.locator("#problems .problem")).to_contain_text("RankTooHigh")

            world.kubectl("delete", "la", "sql")
            await expect(tab.page.locator(".adapter[data-adapter$='/sql']")).to_have_count(0)
            assert await shown(tab) == by_kubectl(world)
            assert not tab.errors and not tab.elsewhere()

            world.stop_operator()
            await expect(tab.page.locator("#link")).to_have_text(re.compile(r"disconnected since \d\d:\d\d:\d\d: "))
            world.start_operator("--router-port", str(port))
            await tab.live()
            await expect(loaded).to_have_count(1)
            assert sum(url.endswith("/ui/") for url in tab.asked) == 1  # never loaded anew
