"""The examples of docs/pull-queues.md, the worker over a real Redis included."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.router.examples import try_examples
from tests.router.serving import served
from tests.router.test_docs import the_fleet

PAGE = (Path(__file__).parents[2] / "docs" / "pull-queues.md").read_text()
REDIS = shutil.which("redis-server")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_the_example_prints_what_the_page_says() -> None:
    async with served(the_fleet()) as api:
        await try_examples(PAGE, api)


@asynccontextmanager
async def a_redis(folder: Path) -> AsyncIterator[redis.Redis]:
    """A server of its own on a socket in `folder`."""
    assert REDIS is not None
    path = folder / "redis.sock"
    words = ("--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(folder))
    server = await asyncio.create_subprocess_exec(REDIS, *words, stdout=asyncio.subprocess.PIPE)
    assert server.stdout is not None
    try:
        async with asyncio.timeout(60):
            while not path.is_socket() or b"eady to accept connections" not in await server.stdout.readline():
                pass
        with redis.Redis(unix_socket_path=str(path)) as client:
            yield client
    finally:
        server.terminate()
        await server.wait()


@pytest.mark.skipif(REDIS is None, reason="redis-server is not installed")
async def test_workers_over_redis_take_each_job_once_and_only_what_they_hold(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    worker: dict[str, Any] = {}
    exec(compile(code, "docs/pull-queues.md", "exec"), worker)
    async with served(the_fleet()) as api, a_redis(tmp_path) as queue:
        for number in range(40):
            adapter = ("sql", "chat", "poet")[number % 3]
            queue.lpush("jobs", json.dumps({"id": number, "adapters": [adapter], "at": time.time()}))

        async def work(pod: str) -> list[dict[str, Any]]:
            taken = []
            while found := await asyncio.to_thread(worker["take"], queue, api.url, "team-a", pod):
                job, answer = found
                assert set(answer["engineNames"]) == set(job["adapters"])
                worker["done"](queue, pod, job)
                taken.append(job)
            return taken

        mine, others, again = await asyncio.gather(work("vllm-0"), work("vllm-1"), work("vllm-1"))
        assert {job["adapters"][0] for job in [*others, *again]} <= {"sql"}
        ids = sorted(job["id"] for job in [*mine, *others, *again])
        assert ids == [number for number in range(40) if number % 3 != 2]
        assert queue.llen("jobs") == 13 and not queue.keys("taken:*")
