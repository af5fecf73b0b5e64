"""Through the picker a chat goes on where it began, by its text or by a session's key."""

from __future__ import annotations

from typing import Any

from tests.picking.gateway import picking
from tests.router.fleet import a_fleet

RULES = {"role": "system", "content": "Answer from the tables of the shop alone. " * 60}


async def test_a_chat_goes_on_where_it_began() -> None:
    async with picking(a_fleet()) as it:
        messages: list[dict[str, Any]] = [RULES, {"role": "user", "content": "How many orders are there? " * 40}]
        assert (await it.gateway.ask({"model": "sql", "messages": messages})).endpoint
        prefixes = it.served.api.picker.prefixes
        assert prefixes.cached_blocks == 0 < prefixes.other_blocks == len(prefixes.index)
        messages += [{"role": "assistant", "content": "Forty. " * 50}, {"role": "user", "content": "And sales?"}]
        for _ in range(3):  # the pod may be busy computing still, but there are only two
            assert (await it.gateway.ask({"model": "sql", "messages": messages})).endpoint
        assert prefixes.cached_blocks > 0


async def test_a_session_is_a_hint_by_the_header_or_by_the_body() -> None:
    async with picking(a_fleet()) as it:
        for body, headers in (({}, {"x-session-id": "7"}), ({"prompt_cache_key": "8"}, {}), ({"user": "9"}, {})):
            before = len(it.served.api.picker.prefixes.index)
            await it.gateway.ask({"model": "sql", "prompt": "hi"} | body, headers=headers)
            assert len(it.served.api.picker.prefixes.index) == before + 1
