"""Whatever the webhook is sent, no pod is refused by it, and no pod changes that does not ask for an agent."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from lora_operator.injection.patch import Parts, json_patch
from lora_operator.injection.webhook import PATH, Webhook, application, reviewed
from lora_operator.telemetry.server import ServeError

LABELS = {"production-stack.vllm-project/agent": "inject"}
PARTS = Parts(
    {"name": "lora-agent", "args": ["agent", "--engine-port={port}"]},
    [{"name": "lora-adapters", "emptyDir": {}}, {"name": "lora-agent-token", "secret": {"secretName": "t"}}],
)
Json = dict[str, Any]


def a_pod(**containers: list[str]) -> Json:
    shown = [{"name": name, "args": words} for name, words in containers.items()]
    return {"metadata": {"labels": LABELS}, "spec": {"containers": shown}}


@pytest.mark.parametrize(
    "body",
    ["", "no JSON", "[]", "{}", '{"request": {}}', '{"request": {"uid": "1", "object": 5}}',
     json.dumps({"request": {"uid": "1", "object": a_pod(vllm=[1])}})],  # type: ignore[list-item]
)  # fmt: skip
async def test_nonsense_is_answered_with_400_so_that_the_pod_passes(body: str) -> None:
    async with TestClient(TestServer(application(PARTS))) as client:
        answer = await client.post(PATH, data=body)
        assert answer.status == 400


def test_pod_is_allowed_whether_it_is_changed_or_not() -> None:
    changed = reviewed({"request": {"uid": "7", "object": a_pod(vllm=["--port=9000"])}}, PARTS)["response"]
    assert (changed["uid"], changed["allowed"], changed["patchType"]) == ("7", True, "JSONPatch")
    assert "--engine-port=9000" in base64.b64decode(changed["patch"]).decode()
    left = reviewed({"request": {"uid": "8", "object": {"metadata": {}, "spec": {}}}}, PARTS)["response"]
    assert left == {"uid": "8", "allowed": True}


@pytest.mark.parametrize("labels", [None, {}, {"production-stack.vllm-project/agent": "none"}])
def test_pod_that_does_not_ask_is_left_as_it_is(labels: Json | None) -> None:
    assert json_patch(a_pod(vllm=[]) | {"metadata": {"labels": labels}}, PARTS) == []


def test_what_the_pod_has_is_kept() -> None:
    pod = a_pod(proxy=[], served=["--enable-lora"])
    pod["metadata"]["annotations"] = {"mine": "x"}
    pod["spec"] |= {"volumes": [{"name": "own"}], "initContainers": [{"name": "first"}]}
    pod["spec"]["containers"][1]["env"] = [{"name": "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "value": "1"}]
    paths = [one["path"] for one in json_patch(pod, PARTS)]
    assert paths == [
        "/metadata/labels/production-stack.vllm-project~1lora",
        "/metadata/annotations/production-stack.vllm-project~1adapter-root",
        "/spec/volumes/-", "/spec/volumes/-",
        "/spec/initContainers/-",
        "/spec/containers/1/volumeMounts", "/spec/containers/1/volumeMounts/-",
    ]  # fmt: skip


async def test_operator_says_which_file_keeps_its_webhook_from_beginning(tmp_path: Path) -> None:
    hook = Webhook("127.0.0.1", 0, tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "injected.json")
    with pytest.raises(ServeError, match=r"injects agents cannot begin: .*tls\.crt"):
        await hook.serve()
