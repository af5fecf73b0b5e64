"""Bringing an adapter to a folder, from servers that do what they should."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from e2e.stores.proxy import Fault
from lora_operator.artifacts import CONFIG_FILE, WEIGHTS_FILE
from lora_operator.fetch.fetcher import Fetcher
from tests.fetch.ordered import LIMITS, SECRET, Case, an_order, sha256


async def test_brings_all_files_and_nothing_else(case: Case) -> None:
    files = await case.fetch()
    assert case.whole
    assert [(file.path, file.sha256) for file in files] == [(n, sha256(case.files[n])) for n in sorted(case.files)]


async def test_asks_for_a_file_in_one_stream(case: Case) -> None:
    await case.fetch()
    assert [seen.range for seen in case.store.seen] == ["bytes=0-"]
    assert case.store.sent_bytes == len(case.files[WEIGHTS_FILE])


async def test_takes_the_whole_file_at_once_where_the_server_has_no_ranges(case: Case) -> None:
    case.store.always = Fault(ranges=False)
    await case.fetch()
    assert case.whole
    assert len(case.store.seen) == 1


async def test_takes_a_body_of_untold_length(case: Case) -> None:
    case.store.always = Fault(ranges=False, chunked=True)
    await case.fetch()
    assert case.whole


async def test_asks_only_for_the_version_that_was_inspected(case: Case) -> None:
    await case.fetch()
    assert {seen.headers["If-Match"] for seen in case.store.seen} == {case.link.tag}


async def test_tells_the_digest_of_a_file_whose_store_told_none(case: Case) -> None:
    files = await case.fetch(an_order(case.files, case.link, sha256=""))
    assert {file.path: file.sha256 for file in files}[WEIGHTS_FILE] == sha256(case.files[WEIGHTS_FILE])


async def test_asks_for_no_ranges_where_parts_of_two_versions_would_go_unnoticed(case: Case) -> None:
    order = an_order(case.files, replace(case.link, tag=""), sha256="")
    await case.fetch(order)
    assert case.whole
    assert [seen.range for seen in case.store.seen] == [""]


async def test_keeps_to_the_number_of_connections_of_all_fetches_together(case: Case) -> None:
    case.store.together = 3
    folders = [case.into / str(number) for number in range(4)]
    for folder in folders:
        folder.mkdir()
    limits = replace(LIMITS, connections=3)
    async with Fetcher(limits=limits) as fetcher:
        await asyncio.gather(*(fetcher.fetch(case.order, folder) for folder in folders))
    assert case.store.most_at_once == 3
    assert all((folder / WEIGHTS_FILE).read_bytes() == case.files[WEIGHTS_FILE] for folder in folders)


async def test_reports_progress_coarsely_and_the_whole_at_the_end(case: Case) -> None:
    told: list[int] = []
    await case.fetch(report=told.append)
    assert told[-1] == case.order.size_bytes
    assert len(told) < 60


async def test_removes_what_is_not_of_the_version(case: Case) -> None:
    (case.into / "tokenizer.json").write_text("{}")
    (case.into / "folder").mkdir()
    (case.into / WEIGHTS_FILE).symlink_to(case.into / "folder")
    await case.fetch()
    assert case.whole


async def test_takes_a_config_by_link_too(case: Case) -> None:
    case.store.files["/config"] = case.files[CONFIG_FILE]
    order = case.order
    config = replace(order.files[0], inline=None, link=replace(case.link, url=case.store.url("/config"), tag=""))
    await case.fetch(replace(order, files=(config, order.files[1])))
    assert case.whole


async def test_shows_no_link_in_orders(case: Case) -> None:
    assert SECRET not in repr(case.order)
