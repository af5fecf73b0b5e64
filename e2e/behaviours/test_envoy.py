"""A real Envoy sends each request to a pod that holds its adapter, as the endpoint picker tells it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from e2e.behaviours.client import digest_of
from e2e.behaviours.folders import many
from e2e.behaviours.pickers import a_picker, envoy_or_skip, status_of
from e2e.behaviours.worlds import Worlds
from e2e.envoy import Envoy
from e2e.world import EngineProbe, World
from e2e.world.world import BASE_MODEL, assigned, condition, eventually


@pytest.fixture(scope="module", autouse=True)
def _envoy_is_there() -> None:
    envoy_or_skip()


def lines_of(url: str, body: Any) -> tuple[str, list[str]]:
    """The content type and the lines of a streamed answer."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.headers["Content-Type"], [line.decode().strip() for line in answer if line.strip()]


def publish(world: World, name: str, seed: int) -> str:
    return digest_of(world.adapter(name, seed=seed))


def test_requests_through_envoy_reach_the_pod_that_holds_their_adapter(
    worlds: Worlds, kubeconfig: Path, tmp_path: Path
) -> None:
    # an old release: it has to be given each version of an adapter under a name of its own
    world = worlds(2, release="0.28.0", max_cpu_loras=4)
    first = {name: publish(world, name, seed) for seed, name in enumerate(("sql", "chat"))}
    for name in first:
        world.apply(name, name)
    lazy, _ = many(world, 2)
    world.apply("many", "many", deployment={"loadOnStartup": False})
    world.adapter("huge", rank=64)
    world.apply("huge", "huge")
    for name in first:
        world.wait_ready(name)
    world.wait("many", lambda status: condition(status, "SourceReady") == "True")
    world.wait("huge", lambda status: condition(status, "Ready") == "False" and bool(status.get("failedAdapters")))
    holders = [set(assigned(world.get(name)["status"])) for name in first]
    assert holders[0] != holders[1], "they should be on different pods, or this test proves little"

    with (
        a_picker(world, kubeconfig) as (port, process),
        Envoy(port, tmp_path / "closed", tls=True) as envoy,
        Envoy(port, tmp_path / "open", tls=True, fail_open=True, response_mode="FULL_DUPLEX_STREAMED") as watching,
    ):
        client = EngineProbe(envoy.url.removeprefix("http://"))
        with ThreadPoolExecutor(4) as pool:
            asked = [*first] * 10
            for name, answer in zip(asked, pool.map(client.complete, asked), strict=True):
                assert (answer.status, answer.adapter, answer.weights) == (200, name, first[name]), answer
        assert client.complete(BASE_MODEL).adapter == "base"

        # a new version has another name in the engine; whoever asks knows nothing of that
        second = publish(world, "sql", 7)
        eventually(lambda: client.complete("sql").weights == second, what=["the new version answers"])
        assert client.complete("sql").adapter.startswith("sql--")

        # an answer in pieces comes through as such, also where the gateway offers to show it to the picker
        for url in (envoy.url, watching.url):
            body = {"model": "chat", "prompt": "tell me", "max_tokens": 3, "stream": True}
            kind, lines = lines_of(f"{url}/v1/completions", body)
            assert kind.startswith("text/event-stream")
            assert lines[-1] == "data: [DONE]" and len(lines) > 3

        status, _, body = status_of(envoy.url, "/v1/completions", {"model": "sqll", "prompt": "x"})
        assert (status, body["error"]["near"]) == (404, ["sql"])
        status, headers, body = status_of(envoy.url, "/v1/completions", {"model": "huge", "prompt": "x"})
        assert (status, body["error"]["type"]) == (503, "RankTooHigh") and headers["Retry-After"]
        assert status_of(envoy.url, "/v1/load_lora_adapter", {"model": BASE_MODEL, "lora_name": "x"})[0] == 403
        nowhere = {"x-gateway-destination-endpoint": "127.0.0.1:9"}
        assert status_of(envoy.url, "/v1/models", **nowhere)[0] == 200

        # loaded on demand: the request waits for it
        assert client.complete(lazy).weights == digest_of(world.source / "many" / lazy)

        # without its picker a gateway that fails closed answers itself; one that fails open has nowhere to send to
        process.kill()
        process.wait()
        body = {"model": "sql", "prompt": "x"}
        assert status_of(envoy.url, "/v1/completions", body)[0] == 500
        assert status_of(watching.url, "/v1/completions", body)[0] in (500, 503)
        wish = {"x-gateway-destination-endpoint": world.engine("vllm-0").address}
        assert status_of(watching.url, "/v1/models", **wish)[0] == 503
