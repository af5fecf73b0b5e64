"""What the agent lets in, and what it answers to requests that make no sense."""

from __future__ import annotations

import hmac
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.stores.proxy import Fault
from lora_operator.agent import service
from lora_operator.agent_api.wire import OrderBody
from tests.agent.running import TOKEN, Agent, an_agent, place
from tests.fetch.ordered import SECRET, Case

VERSION = "/v1/adapters/alpaca/0123456789abcdef"
ROUTES = [
    ("PUT", VERSION), ("GET", VERSION), ("DELETE", VERSION), ("PUT", VERSION + "/pin"), ("DELETE", VERSION + "/pin"),
    ("GET", "/v1/adapters"), ("PUT", "/v1/loaded"), ("PUT", "/v1/readiness"), ("GET", "/v1/statistics"),
    ("GET", "/nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN[:-1], TOKEN + "x", "tökén"])
async def test_nothing_is_answered_without_the_token(agent: Agent, method: str, path: str, token: str | None) -> None:
    answer = await agent.ask(method, path, token=token)
    assert (answer.status, answer.reason) == (401, "Unauthorized")
    assert TOKEN not in answer.text


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_health_and_metrics_need_no_token(agent: Agent, path: str) -> None:
    assert (await agent.ask("GET", path, token=None)).status == (503 if path == "/readyz" else 200)


async def test_tokens_are_compared_in_constant_time(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr(hmac, "compare_digest", lambda one, other: compared.append((one, other)) or one == other)
    assert (await agent.ask("GET", "/v1/adapters", token="wrong")).status == 401
    assert (await agent.ask("GET", "/v1/adapters")).status == 200
    assert [one for one, _ in compared] == [b"Bearer wrong", f"Bearer {TOKEN}".encode()]


async def test_a_rotated_token_counts_at_once_and_a_lost_one_lets_nobody_in(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("an0ther-token-of-the-agents")
    assert (await agent.ask("GET", "/v1/adapters")).status == 401
    assert (await agent.ask("GET", "/v1/adapters", token="an0ther-token-of-the-agents")).status == 200
    (tmp_path / "token").unlink()
    answer = await agent.ask("GET", "/v1/adapters")
    assert (answer.status, answer.reason) == (503, "TokenUnavailable")
    assert (await agent.ask("GET", "/healthz", token=None)).status == 200


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("..", None), ("%2e%2e", None), ("a%2F..%2F..%2Fetc", "InvalidName"), ("a%00b", "InvalidName"),
        ("a,b", "InvalidName"), (".tmp", "InvalidName"), ("x" * 129, "InvalidName"), ("%20", "InvalidName"),
        ("a\\b", "InvalidName"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
async def test_a_name_that_is_none_is_refused(
    agent: Agent, case: Case, method: str, name: str, reason: str | None
) -> None:
    body = OrderBody.of(case.order, prefetch=False).model_dump_json(by_alias=True).encode()
    answer = await agent.ask(method, f"/v1/adapters/{name}/0123456789abcdef", data=body if method == "PUT" else None)
    assert 400 <= answer.status < 500 and answer.reason in (reason or answer.reason, "BadRequest")
    assert [path.name for path in agent.root.iterdir() if not path.name.startswith(".")] == []


@pytest.mark.parametrize("version", ["x", "0" * 15, "0" * 17, "ABCDEF0123456789", "..%2F..%2Fetc%2Fpass", "%00"])
async def test_a_fingerprint_that_is_none_is_refused(agent: Agent, version: str) -> None:
    answer = await agent.ask("GET", f"/v1/adapters/alpaca/{version}")
    assert (answer.status, answer.reason) == (400, "InvalidFingerprint")


def bodies() -> Iterator[tuple[str, Any]]:
    file = {"path": "adapter_config.json", "sizeBytes": 2, "inline": "e30="}
    yield "nothing", None
    yield "no files", {"files": []}
    yield "an unknown field", {"files": [file], "prefetsh": True}
    yield "a digest that is none", {"files": [{**file, "sha256": "zz"}]}
    yield "a size below zero", {"files": [{**file, "sizeBytes": -1}]}
    yield "a size beyond any disk", {"files": [{**file, "sizeBytes": 1 << 60}]}
    yield "too many files", {"files": [file] * 17}
    yield "an unknown kind of archive", {"files": [file], "archive": {"kind": "rar", "link": {"url": "http://x"}}}
    yield "a list", [file]
    yield "links of a number", {"files": [{**file, "link": 7}]}


@pytest.mark.parametrize(("what", "body"), list(bodies()))
async def test_an_order_that_makes_no_sense_is_refused_and_its_values_are_not_repeated(
    agent: Agent, what: str, body: Any
) -> None:
    answer = await agent.ask("PUT", VERSION, body)
    assert (answer.status, answer.reason) == (400, "BadRequest"), what
    assert "prefetsh" not in answer.text or what == "an unknown field"
    assert "rar" not in answer.text


@pytest.mark.parametrize("text", [b"{", b"\xff\xfe", b"null", b'{"files": ' + b"[" * 2000])
async def test_a_body_that_is_no_json_is_refused(agent: Agent, text: bytes) -> None:
    answer = await agent.ask("PUT", VERSION, data=text)
    assert (answer.status, answer.reason) == (400, "BadRequest")


@pytest.mark.parametrize("path", ["../adapter_config.json", "/etc/passwd", "a/b.json", "..", "weights.bin", ".parts"])
async def test_a_path_that_is_no_file_of_an_adapter_is_refused(agent: Agent, path: str) -> None:
    config = {"path": path, "sizeBytes": 2, "inline": "e30="}
    answer = await agent.ask("PUT", VERSION + "?wait=20", {"files": [config]})
    assert answer.status == 200 and answer.body["state"] == "Failed", answer.text
    assert answer.body["problem"]["retryable"] is False
    assert not (agent.root.parent / "adapter_config.json").exists()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "nonsense", "http://169.254.169.254/x"])
async def test_a_link_to_somewhere_else_than_a_store_is_refused(agent: Agent, case: Case, url: str) -> None:
    body = json.loads(OrderBody.of(case.order, prefetch=False).model_dump_json(by_alias=True))
    body["files"][1]["link"]["url"] = url
    answer = await agent.ask("PUT", f"{place(case.order)}?wait=20", body)
    assert answer.body["problem"]["reason"] in ("ForbiddenUrl", "ForbiddenAddress"), answer.text


@pytest.mark.parametrize("wait", ["-1", "nan", "inf", "31", "soon"])
async def test_a_time_to_wait_that_is_none_is_refused(agent: Agent, case: Case, wait: str) -> None:
    body = OrderBody.of(case.order, prefetch=False).model_dump_json(by_alias=True).encode()
    answer = await agent.ask("PUT", f"{place(case.order)}?wait={wait}", data=body)
    assert (answer.status, answer.reason) == (400, "BadRequest")


async def test_a_body_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # as small as it can be tested
    monkeypatch.setattr(service, "MAX_BODY_BYTES", 1000)
    async with an_agent(tmp_path) as agent:
        answer = await agent.ask("PUT", VERSION, data=b" " * 1001)
    assert (answer.status, answer.reason) == (413, "BadRequest")


async def test_what_does_not_exist_is_answered_as_that(agent: Agent) -> None:
    assert (await agent.ask("GET", "/nothing")).status == 404
    assert (await agent.ask("POST", "/v1/adapters")).status == 405
    answer = await agent.ask("GET", VERSION)
    assert (answer.status, answer.reason) == (404, "NotStored")


async def test_no_secret_is_in_answers_logs_or_metrics(
    agent: Agent, case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        case.store.script.append(Fault(status=403))
        answer = await agent.fetch(case.order)
        assert answer.body["wantsLinks"]
        await agent.ask("GET", place(case.order))
        await agent.ask("GET", "/v1/adapters")
        await agent.fetch(case.order)
        case.store.always = Fault(status=403)
        broken = OrderBody.of(case.order, prefetch=False).model_dump_json(by_alias=True).replace("url", "uri")
        await agent.ask("PUT", place(case.order), data=broken.encode())
        await agent.ask("GET", "/v1/adapters", token="wr0ng-token")
        await agent.ask("GET", "/metrics")
        await agent.ask("GET", "/v1/statistics")
    said = caplog.text + "".join(agent.heard) + "".join(repr(record.__dict__) for record in caplog.records)
    assert "fetched alpaca" in said and len(said) > 1000
    assert not re.search(f"{SECRET}|{TOKEN}|wr0ng-token|sig=", said)
