"""kill -9 in the middle of a fetch: what had come is used again, and what is at the end is whole."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from e2e.stores.proxy import Fault
from lora_operator.artifacts import CONFIG_FILE, WEIGHTS_FILE
from lora_operator.fetch.partial import Mark, PartialFile, journal_of
from tests.fetch.ordered import CHUNK, LIMITS, STALL_SECONDS, Case, an_order, sha256
from tests.fetch.tally import Tally

BLOCK = LIMITS.block_bytes


async def fetch_and_die(case: Case, after_blocks: int) -> None:
    """A child fetches and kills itself after it has written so many blocks."""
    child = (
        "import asyncio, os, sys\n"
        "from pathlib import Path\n"
        "from lora_operator.fetch.fetcher import Fetcher\n"
        "from lora_operator.fetch.manifest import FetchFile, FetchManifest, Link\n"
        "from lora_operator.fetch.partial import PartialFile\n"
        "from tests.fetch.ordered import LIMITS\n"
        "into, url, tag, size, digest, left = sys.argv[1:]\n"
        "write, count = PartialFile.append, [int(left)]\n"
        "def dying(self, block):\n"
        "    if not count[0]: os.kill(os.getpid(), 9)\n"
        "    count[0] -= 1\n"
        "    write(self, block)\n"
        "PartialFile.append = dying\n"
        "async def main():\n"
        "    file = FetchFile('adapter_model.safetensors', int(size), digest, link=Link(url, tag=tag))\n"
        "    async with Fetcher(limits=LIMITS) as fetcher:\n"
        "        await fetcher.fetch(FetchManifest('alpaca', '0' * 16, (file,)), Path(into))\n"
        "asyncio.run(main())\n"
    )
    weights = case.order.files[1]
    arguments = [str(case.into), case.link.url, case.link.tag, str(weights.size_bytes), weights.sha256]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", child, *arguments, str(after_blocks), env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        stderr=subprocess.PIPE,
    )  # fmt: skip
    _, said = await process.communicate()
    assert process.returncode == -9, said.decode()


@pytest.mark.parametrize("after_blocks", [1, 9, 28])
async def test_a_killed_fetch_is_taken_up_again_where_it_was(case: Case, after_blocks: int) -> None:
    await fetch_and_die(case, after_blocks)
    kept = kept_bytes(case)
    assert kept == after_blocks * BLOCK
    tally = Tally()
    await case.fetch(meter=tally)
    assert case.whole
    assert tally.received_bytes == len(case.files[WEIGHTS_FILE]) - kept


def kept_bytes(case: Case) -> int:
    partial = PartialFile(case.into / WEIGHTS_FILE, Mark(None, sha256(case.files[WEIGHTS_FILE])))
    partial.close()
    return partial.have_bytes


async def half_fetched(case: Case) -> int:
    """Leave what a failed fetch leaves; returns how many bytes that is."""
    case.store.script.extend([Fault(stall_after=2 * CHUNK), Fault(status=404)])
    case.limits = replace(LIMITS, stall_seconds=STALL_SECONDS)
    await case.failure()
    case.store.script.clear()
    kept = kept_bytes(case)
    case.store.sent_bytes = 0
    assert 0 < kept < len(case.files[WEIGHTS_FILE])
    return kept


async def test_nothing_is_taken_over_from_another_version(case: Case) -> None:
    await half_fetched(case)
    case.store.files = {path: content[::-1] for path, content in case.store.files.items()}
    error = await case.failure(an_order(case.files, case.link, sha256="0" * 64))
    assert error.reason == "HeaderInvalid"
    assert case.store.sent_bytes > CHUNK


async def test_nothing_is_taken_over_where_the_store_gives_another_tag(case: Case) -> None:
    case.store.script.extend([Fault(cut_after=CHUNK), Fault(status=404)])
    await case.failure(an_order(case.files, case.link, sha256=""))
    case.store.files = dict(case.store.files)
    case.store.sent_bytes = 0
    case.store.always = Fault(tag='"new"', ranges=True)
    order = an_order(case.files, replace(case.link, tag='W/"new"'), sha256="")
    await case.fetch(order)
    assert case.store.sent_bytes == len(case.files[WEIGHTS_FILE])


async def test_bytes_that_a_power_failure_took_are_fetched_again(case: Case) -> None:
    await half_fetched(case)
    with (case.into / WEIGHTS_FILE).open("r+b") as file:
        file.seek(CHUNK + 100)
        file.write(bytes(BLOCK))
    tally = Tally()
    await case.fetch(meter=tally)
    assert case.whole
    assert tally.received_bytes == len(case.files[WEIGHTS_FILE]) - CHUNK


@pytest.mark.parametrize(
    "spoilt",
    [b"", b"\n", b"{}\n", b'{"size_bytes": "x"}\n', b"[1]\n0 10 20\n", b"\xff\xfe\n" * 9, b"1024", b"-5 9\n1 2 3\n"],
)
async def test_a_spoilt_journal_costs_only_time(case: Case, spoilt: bytes) -> None:
    await half_fetched(case)
    journal_of(case.into / WEIGHTS_FILE).write_bytes(spoilt)
    await case.fetch()
    assert case.whole


async def test_a_torn_line_of_the_journal_costs_only_its_block(case: Case) -> None:
    kept = await half_fetched(case)
    journal = journal_of(case.into / WEIGHTS_FILE)
    journal.write_bytes(journal.read_bytes()[:-3])
    tally = Tally()
    await case.fetch(meter=tally)
    assert case.whole
    assert tally.received_bytes <= len(case.files[WEIGHTS_FILE]) - kept + BLOCK


async def test_files_that_were_whole_before_a_kill_are_proven_and_not_fetched_again(case: Case) -> None:
    await case.fetch()
    case.store.sent_bytes = 0
    (case.into / WEIGHTS_FILE).chmod(0o444)
    await case.fetch()
    assert case.whole
    assert case.store.sent_bytes == 0


async def test_whole_files_that_are_not_what_they_should_be_are_fetched_again(case: Case) -> None:
    data = bytearray(case.files[WEIGHTS_FILE])
    data[20_000] ^= 1
    (case.into / WEIGHTS_FILE).write_bytes(data)
    (case.into / CONFIG_FILE).write_bytes(b"old")
    await case.fetch()
    assert case.whole


def test_a_file_is_taken_up_only_by_the_version_that_its_marks_prove() -> None:
    before = Mark(10, "", "etag")
    assert Mark(10, "", "etag").continues(before)
    assert Mark(10).continues(before)  # the store will have to show the same tag
    assert Mark(None, "", "etag").continues(before)
    assert not Mark(11, "", "etag").continues(before)
    assert not Mark(10, "", "other").continues(before)
    assert not Mark(10, "abc", "etag").continues(before)
    assert not Mark(10, "", "etag").continues(Mark(10, "abc", "etag"))
    assert Mark(10, "abc", "new").continues(Mark(10, "abc", "old"))
    assert not Mark(10).continues(Mark(10))


def test_the_folder_of_a_partial_file_holds_it_and_its_journal(tmp_path: Path) -> None:
    partial = PartialFile(tmp_path / "file", Mark(4, "", "tag"))
    partial.append(b"ab")
    partial.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".file.parts", "file"]
