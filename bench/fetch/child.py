"""`python -m bench.fetch.child TOOL FOLDER SIZE SHA256 URL …`: fetches, and prints seconds and its largest memory.

TOOL is `ours`, or `hub`: what huggingface_hub fetches files with.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.fetch.content import an_order
from lora_operator.fetch.fetcher import Fetcher

AT_ONCE = 16


async def ours(folder: Path, size_bytes: int, sha256: str, urls: list[str]) -> None:
    """All at a time: the fetcher has its own limits."""
    async with Fetcher() as fetcher:
        orders = [an_order(f"adapter-{number}", url, size_bytes, sha256) for number, url in enumerate(urls)]
        for order in orders:
            (folder / order.name).mkdir()
        await asyncio.gather(*(fetcher.fetch(order, folder / order.name) for order in orders))


def hub(folder: Path, size_bytes: int, urls: list[str]) -> None:
    """Does not compare digests."""
    from huggingface_hub import file_download

    def one(numbered: tuple[int, str]) -> None:
        with (folder / str(numbered[0])).open("wb") as file:
            file_download.http_get(numbered[1], file, expected_size=size_bytes)

    with ThreadPoolExecutor(min(AT_ONCE, len(urls))) as pool:
        list(pool.map(one, enumerate(urls)))


def main() -> None:
    tool, folder, size_bytes, sha256, *urls = sys.argv[1:]
    began = time.monotonic()
    if tool == "ours":
        asyncio.run(ours(Path(folder), int(size_bytes), sha256, urls))
    else:
        hub(Path(folder), int(size_bytes), urls)
    seconds = time.monotonic() - began
    print(json.dumps({"seconds": seconds, "kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))


if __name__ == "__main__":
    main()
