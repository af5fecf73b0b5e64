"""The web page in a real browser: what people see of their adapters, and what they do with them there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from httpx2 import AsyncClient
from playwright.async_api import Browser, expect

from e2e.world.adapters import write_adapter
from e2e.world.browser import Tab, a_browser, a_tab
from lora_library.service import built
from lora_library.web.app import application
from lora_library.web.serving import Server
from lora_operator.pages.files import HEADERS
from lora_operator.process.listening import open_port
from tests.library.conftest import Running, settings_for

# one browser for the whole file
pytestmark = pytest.mark.asyncio(loop_scope="module")

HOSTILE = "<img src=x onerror=window.taken=1>"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with a_browser() as browser:
        yield browser


@asynccontextmanager
async def serving(folder: Path, **options: Any) -> AsyncIterator[Running]:
    """A library on a port."""
    async with built(settings_for(folder, **options)) as parts:
        opened = open_port("127.0.0.1", 0)
        server = Server(application(parts.library))
        task = asyncio.create_task(server.run_on(opened))
        async with AsyncClient(base_url=f"http://127.0.0.1:{opened.getsockname()[1]}") as client:
            yield Running(parts, client, folder)
        server.should_exit = True
        await task


@asynccontextmanager
async def signed_in(browser: Browser, library: Running, token: str = "token-of-alice") -> AsyncIterator[Tab]:
    """The page; afterwards it must have complained of nothing but refusals, and asked nobody else."""
    async with a_tab(browser, f"{library.client.base_url}/library/") as tab:
        await tab.page.fill("#token", token)
        await tab.page.press("#token", "Enter")
        await expect(tab.page.locator("#library")).to_be_visible()
        yield tab
        assert not [each for each in tab.errors if "Failed to load resource" not in each] and not tab.elsewhere()
        assert not any(token in url for url in tab.asked)


async def names(tab: Tab) -> list[str]:
    return await tab.texts("#rows .name-button")


async def test_a_user_uploads_sees_changes_deletes_and_restores(browser: Browser, tmp_path: Path) -> None:
    first, second = (write_adapter(tmp_path / "made" / name, base_model="tiny", seed=seed) for seed, name in
                     enumerate(("style", "again")))  # fmt: skip
    async with serving(tmp_path, gateway="https://llm.example.com/") as library, signed_in(browser, library) as tab:
        page = tab.page
        await expect(page.locator("#empty")).to_contain_text("upload an adapter")
        await page.set_input_files("#folder", first)
        await expect(page.locator("#chosen")).to_contain_text("style: adapter_config.json, adapter_model.safetensors")
        await page.fill("#upload-tags", "poetry, v1")
        await page.click("#upload-start")
        await expect(page.locator("#uploads li")).to_contain_text("version 1 is stored")
        await page.click("#rows .name-button")
        details = page.locator("#details")
        await expect(details.locator("dl")).to_contain_text("q_proj, v_proj")
        await expect(details.locator("h2")).to_be_focused()
        model = (await library.alice.call("GET", "/api/loras"))[1]["loras"][0]["model"]
        call = await details.locator("pre").inner_text()
        assert "https://llm.example.com/v1/chat/completions" in call and f'"model":"{model}"' in call

        await page.set_input_files("#files", sorted(second.iterdir()))
        await page.fill("#upload-name", "style")
        await page.click("#upload-start")
        await expect(page.locator("#uploads li").last).to_contain_text("version 2 is stored")
        await page.keyboard.press("Escape")
        await expect(details).to_be_hidden()
        await expect(page.locator("#rows .name-button")).to_be_focused()
        await page.keyboard.press("Enter")
        await details.get_by_role("button", name="Serve version 1").click()
        await expect(details.locator("[data-version='1']")).to_contain_text("served")
        await page.check("#pinned")
        await expect(page.locator("#said")).to_have_text("pinned")
        await page.fill("#share-users", "bob")
        await details.get_by_role("button", name="Share", exact=True).click()
        await expect(page.locator("#said")).to_have_text("sharing is saved")
        await page.fill("#change-name", "no/name")
        await details.get_by_role("button", name="Save").click()
        await expect(details.locator(".trouble")).to_contain_text("no/name")
        _, made = await library.alice.call("GET", "/api/loras")
        (one,) = made["loras"]
        assert (one["version"], one["pinned"], one["shared_with"]["users"]) == (1, True, ["bob"])
        assert (await library.bob.call("GET", "/api/loras"))[1]["total"] == 1

        await page.click("#delete")
        await page.click("#question-yes")
        await expect(page.locator("#rows tr")).to_have_count(0)
        await page.select_option("#filter-whose", "deleted")
        await page.click("#rows .name-button")
        await page.click("#restore")
        await expect(page.locator("#rows tr")).to_have_count(0)
        await page.select_option("#filter-whose", "mine")
        await expect(page.locator("#rows tr")).to_have_count(1)
        await page.click("#sign-out")
        await expect(page.locator("#sign-in")).to_be_visible()
        assert await page.evaluate("sessionStorage.length") == 0


async def test_lists_are_searched_sorted_and_paged_and_strangers_words_are_text(
    browser: Browser, tmp_path: Path
) -> None:
    async with serving(tmp_path, quota_adapters=70) as library:
        made = write_adapter(tmp_path / "made", base_model="tiny")
        for number in range(56):
            assert (await library.alice.upload(made, f"style-{number:02}", **{"tags[]": [f"odd-{number % 2}"]}))[
                0
            ] == 201
        _, his = await library.bob.upload(made, "strange", **{"tags[]": [HOSTILE], "description": HOSTILE})
        await library.bob.call("PATCH", his["url"], json={"shared_with": {"everybody": True}})
        async with signed_in(browser, library) as tab:
            page = tab.page
            await expect(page.locator("#quota-warning")).to_contain_text("80%")
            await expect(page.locator("#page-words")).to_have_text("1 to 50 of 57")
            await page.locator("#heads button[data-sort=name]").press("Enter")
            await expect(page.locator("#heads th").first).to_have_attribute("aria-sort", "ascending")
            await expect(page.locator("#rows .name-button").first).to_have_text("strange")
            await page.click("#next")
            await expect(page.locator("#page-words")).to_have_text("51 to 57 of 57")
            await page.keyboard.press("/")
            await page.keyboard.type("STYLE-0")
            await expect(page.locator("#page-words")).to_have_text("1 to 10 of 10")
            await page.fill("#filter-tags", "odd-1")
            await expect(page.locator("#page-words")).to_have_text("1 to 5 of 5")
            assert await names(tab) == [f"style-{number:02}" for number in (1, 3, 5, 7, 9)]
            await page.fill("#filter-tags", HOSTILE)
            await page.fill("#filter-search", "")
            await expect(page.locator("#page-words")).to_have_text("1 to 1 of 1")
            await page.click("#rows .name-button")
            await expect(page.locator("#details dl")).to_contain_text(HOSTILE)
            assert await page.locator("#details form").count() == 0, "another's is not theirs to change"
            assert await page.evaluate("window.taken") is None


async def test_what_cannot_be_uploaded_is_said_and_what_can_is_cancelled(browser: Browser, tmp_path: Path) -> None:
    pickle = tmp_path / "adapter_model.bin"
    pickle.write_bytes(b"x")
    refused = write_adapter(tmp_path / "refused", base_model="tiny")
    (refused / "adapter_model.safetensors").write_bytes(b"not one")
    async with serving(tmp_path, upload_bytes=1 << 20) as library, signed_in(browser, library) as tab:
        page = tab.page
        await page.set_input_files("#files", pickle)
        await expect(page.locator("#upload-problem")).to_contain_text("save the adapter as safetensors")
        await page.set_input_files("#folder", refused)
        await page.click("#upload-start")
        await expect(page.locator("#uploads li")).to_contain_text("not uploaded: ")
        large = write_adapter(tmp_path / "large", base_model="tiny")
        (large / "adapter_model.safetensors").write_bytes(b"x" * (2 << 20))
        await page.set_input_files("#folder", large)
        await expect(page.locator("#upload-problem")).to_contain_text("an upload may have 1 MiB")

        await page.route("**/api/loras/upload", lambda _: None)  # a request that is never answered
        await page.set_input_files("#folder", write_adapter(tmp_path / "slow", base_model="tiny"))
        await page.click("#upload-start")
        await page.get_by_role("button", name="Cancel the upload of slow").click()
        await expect(page.locator("[data-upload=slow]")).to_contain_text("cancelled")
        await page.get_by_role("button", name="Dismiss the upload of slow").click()
        await expect(page.locator("#uploads li")).to_have_count(1)


async def test_a_wrong_token_is_told_and_an_axe_finds_nothing(browser: Browser, tmp_path: Path) -> None:
    async with serving(tmp_path) as library:
        await library.alice.upload(write_adapter(tmp_path / "made", base_model="tiny"), "style", **{"tags[]": ["a"]})
        async with a_tab(browser, f"{library.client.base_url}/library") as tab:
            await tab.page.fill("#token", "token-of-nobody")
            await tab.page.press("#token", "Enter")
            await expect(tab.page.locator("#sign-in-problem")).to_contain_text("the token is not taken")
            await accessible(tab)
            await tab.page.fill("#token", "token-of-alice")
            await tab.page.press("#token", "Enter")
            await tab.page.click("#rows .name-button")
            await expect(tab.page.locator("#details h3")).to_be_visible()
            await accessible(tab)
            await tab.page.click("#theme")  # light
            await accessible(tab)


async def accessible(tab: Tab) -> None:
    found = (await Axe().run(tab.page)).response["violations"]
    assert not [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in found]


async def test_what_stands_before_it_may_say_who_somebody_is_and_no_other_site_can(tmp_path: Path) -> None:
    async with serving(tmp_path) as library:
        for path in ("/library/", "/library/app.js", "/library/base.css"):
            answer = await library.client.get(path)
            assert (
                answer.status_code == 200
                and answer.headers.items() >= {name.lower(): value for name, value in HEADERS.items()}.items()
            ), path
            again = await library.client.get(path, headers={"If-None-Match": answer.headers["ETag"]})
            assert again.status_code == 304
        assert (await library.client.get("/library/../me.py")).status_code == 404
        headers = {"Authorization": "Bearer token-of-alice"}
        assert (await library.client.get("/api/loras/me", headers=headers)).json()["subject"] == "alice"
        for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 400), ("none", 400)):
            given = headers | {"Sec-Fetch-Site": site}
            assert (await library.client.post("/api/loras/upload", headers=given)).status_code == status, site
