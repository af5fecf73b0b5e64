"""One address for everything: OpenAI's own client, through the chart's Envoy, to simulated engines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from e2e.behaviours.client import digest_of
from e2e.behaviours.folders import many
from e2e.behaviours.pickers import a_picker, envoy_or_skip, status_of
from e2e.behaviours.worlds import Worlds
from e2e.envoy import ChartGateway
from e2e.world import World
from e2e.world.world import BASE_MODEL, condition, eventually


@pytest.fixture(scope="module", autouse=True)
def _envoy_is_there() -> None:
    envoy_or_skip()


@contextmanager
def a_client(url: str, key: str = "none") -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=60) as client:
        yield client


def said(text: str | None) -> dict[str, str]:
    """What a simulated engine says about who computed an answer."""
    return dict(word.split("=", 1) for word in (text or "").split() if "=" in word)


def publish(world: World, name: str, seed: int, **more: Any) -> str:
    digest = digest_of(world.adapter(name, seed=seed))
    world.apply(name, name, **more)
    return digest


def test_the_client_of_openai_finds_every_adapter_behind_one_address(
    worlds: Worlds, kubeconfig: Path, tmp_path: Path
) -> None:
    # an old release: it has to be given each version of an adapter under a name of its own
    world = worlds(2, release="0.28.0", max_cpu_loras=4)
    weights = publish(world, "sql", 1, selection={"keywords": ["users", "sql"]})
    lazies = many(world, 2)
    lazy = lazies[0]
    world.apply("many", "many", deployment={"loadOnStartup": False})
    world.wait_ready("sql")
    world.wait("many", lambda status: condition(status, "SourceReady") == "True")
    with (
        a_picker(world, kubeconfig) as (port, process),
        ChartGateway(port, tmp_path / "gateway") as gateway,
        a_client(gateway.url) as client,
    ):
        models = {model.id: model for model in client.models.list()}
        assert set(models) == {BASE_MODEL, "sql", *lazies, "auto"}
        assert (models["sql"].parent, models[BASE_MODEL].parent) == (BASE_MODEL, None)  # type: ignore[attr-defined]
        assert (models["sql"].on_demand, models[lazy].on_demand) == (False, True)  # type: ignore[attr-defined]
        assert client.models.retrieve("sql").owned_by == world.namespace
        with pytest.raises(openai.NotFoundError, match="did you mean sql"):
            client.models.retrieve("sqll")

        messages: Any = [{"role": "user", "content": "How many users are there?"}]
        chat = client.chat.completions.with_raw_response.create(model="sql", messages=messages, max_tokens=3)
        assert said(chat.parse().choices[0].message.content)["weights"] == weights
        assert chat.headers["x-lora-model"] == "sql"
        stream = client.chat.completions.create(model="sql", messages=messages, max_tokens=3, stream=True)
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
        assert len(pieces) > 3 and said("".join(pieces))["weights"] == weights
        base = client.completions.create(model=BASE_MODEL, prompt="hello there", max_tokens=3)
        assert said(base.choices[0].text)["adapter"] == "base"
        answer = client.responses.create(model="sql", input="hello")
        assert said(answer.output_text)["weights"] == weights
        vector = client.embeddings.create(model="sql", input="hello", encoding_format="float").data[0].embedding
        assert vector == [int(digit, 16) / 16 for digit in weights[:8]]
        text = client.audio.transcriptions.create(model="sql", file=("a.wav", b"RIFF" + bytes(50_000))).text
        assert said(text)["weights"] == weights
        for path in ("/v1/rerank", "/v1/score", "/pooling"):
            assert said(status_of(gateway.url, path, {"model": "sql"})[2]["results"][0]["said"])["weights"] == weights

        # chosen by what is said
        auto = client.chat.completions.with_raw_response.create(model="auto", messages=messages, max_tokens=3)
        assert said(auto.parse().choices[0].message.content)["weights"] == weights
        assert (auto.headers["x-lora-model"], auto.headers["x-lora-selected"]) == ("sql", "sql")
        texts = client.completions.create(model="auto", prompt="Some SQL, please", max_tokens=3, stream=True)
        assert said("".join(chunk.choices[0].text for chunk in texts))["weights"] == weights
        none = client.completions.with_raw_response.create(model="auto", prompt="hello there", max_tokens=3)
        assert said(none.parse().choices[0].text)["adapter"] == "base"
        assert (none.headers["x-lora-model"], none.headers.get("x-lora-selected")) == (BASE_MODEL, None)

        # one that nobody may load: refused, or answered by its base model
        request = {"model": "old", "prompt": "hello", "max_tokens": 3}
        unused = {"loadOnStartup": False, "replicas": 0}
        publish(world, "old", 7, deployment=unused)
        eventually(lambda: status_of(gateway.url, "/v1/models/old")[0] == 200, what=["old is known"])
        status, headers, body = status_of(gateway.url, "/v1/completions", request)
        assert (status, headers["Retry-After"], body["error"]["code"]) == (503, "1", 503)
        world.apply("old", "old", deployment=unused, fallback="BaseModel")
        eventually(lambda: status_of(gateway.url, "/v1/completions", request)[0] == 200, what=["the base answers"])
        _, headers, body = status_of(gateway.url, "/v1/completions", request)
        assert said(body["choices"][0]["text"])["adapter"] == "base"
        assert (headers["x-lora-model"], headers["x-lora-fallback"]) == (BASE_MODEL, "ScaledToZero")

        # loaded by the first who asks for it
        lazily = client.chat.completions.create(model=lazy, messages=messages, max_tokens=3)
        assert said(lazily.choices[0].message.content)["weights"] == digest_of(world.source / "many" / lazy)
        with pytest.raises(openai.NotFoundError) as unknown:
            client.chat.completions.create(model="sqll", messages=messages)
        assert unknown.value.body["near"] == ["sql"]  # type: ignore[index]

        # what is no route of OpenAI's would be some pod's own
        for path in ("/metrics", "/v1/load_lora_adapter", "/invocations", "/v1/adapters", "/v1%2Fcompletions"):
            status, _, body = status_of(gateway.url, path, {"model": BASE_MODEL})
            assert (status, body["error"]["code"]) == (404, 404), path
        assert status_of(gateway.url, "/healthz")[0] == 200
        assert b"envoy_cluster_upstream_rq" in status_of(f"http://127.0.0.1:{gateway.metrics_port}", "/metrics")[2]
        assert status_of(f"http://127.0.0.1:{gateway.metrics_port}", "/stats")[0] == 404

        # without any picker: closed, in words that a client understands, and open again by itself
        process.kill()
        process.wait()
        nowhere = {"x-gateway-destination-endpoint": world.engine("vllm-0").address}
        status, headers, body = status_of(gateway.url, "/v1/completions", {"model": "sql", "prompt": "x"}, **nowhere)
        assert (status, body["error"]["type"], headers["Retry-After"]) == (503, "NoEndpointPicker", "1")
        with a_picker(world, kubeconfig, port=port):
            eventually(lambda: status_of(gateway.url, "/v1/models")[0] == 200, what=["the gateway answers"])
