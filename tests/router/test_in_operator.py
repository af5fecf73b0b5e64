"""`lora-operator run` answers routers too."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from tests.core.test_app import an_operator


async def test_the_operator_answers_routers_and_lists_once_for_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    chosen = {"routing_policy": "random", "prefix_blocks": 0}
    async with an_operator(tmp_path, monkeypatch, router_port=unused_tcp_port, **chosen) as running:
        router = running.operator._router
        assert router is not None and (router.api.picker.rules.policy, router.api.picker.prefixes.on) == (
            "random",
            False,
        )
        running.start()
        await running.planned()
        url = f"http://127.0.0.1:{unused_tcp_port}/readyz"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            assert (answer.status, (await answer.json())["apiServer"]) == (200, "Reachable")
        assert [task.get_name() for task in asyncio.all_tasks()].count("watches") == 1
