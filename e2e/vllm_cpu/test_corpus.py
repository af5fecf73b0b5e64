"""What inspection says of strangers' adapters, on real vLLM. Collected by `python -m e2e.vllm_cpu corpus` only.

What is refused is refused there too, or ends the engine, or is answered otherwise than by PEFT; what is accepted for
this release loads and is answered as by PEFT.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e2e.contract.case import Server as Kind
from e2e.contract.corpus import Adapter, adapters, write
from e2e.contract.flavours import ARGUMENTS, environment_of
from e2e.contract.frontend import Frontend
from e2e.contract.outcomes import differs, prompt
from e2e.contract.running import target
from e2e.vllm_cpu.conftest import ROW
from e2e.vllm_cpu.install import install
from e2e.vllm_cpu.places import REPOSITORY
from e2e.vllm_cpu.server import Server, environment
from lora_operator.vllm.quirks import unsupported_features

RELEASE = os.environ.get("LORA_OPERATOR_VLLM_RELEASE", "0.32.0")
SHOWN, OTHERS = adapters()


@dataclass
class Bench:
    """A server with the model that the corpus is written for, and what PEFT answers with each adapter."""

    folder: Path
    answers: dict[str, dict[str, Any]]
    server: Server | None = None

    def running(self) -> Server:
        """Anew where the last adapter has ended it."""
        if self.server is None or self.server.exit_code() is not None:
            self.close()
            more = [*ARGUMENTS[Kind.USUAL], "--model", str(self.folder / "model")]
            server = Server(RELEASE, more, environment_of(Kind.USUAL, Frontend.PYTHON))
            server.start()
            try:
                server.wait_healthy()
            except BaseException:
                server.stop()
                raise
            self.server = server
        return self.server

    def close(self) -> None:
        if self.server is not None:
            self.server.stop()
        self.server = None


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("corpus")
    for adapter in SHOWN:
        write(adapter, folder / "adapters" / adapter.folder)
        write(adapter, folder / "prefixed" / adapter.folder, prefixed=True)
    places = [str(folder / name) for name in ("model", "prefixed", "answers.json")]
    line = [str(install(RELEASE)), "-m", "e2e.contract.corpus_answers", *places]
    paths = environment(RELEASE, {"PYTHONPATH": str(REPOSITORY)})
    subprocess.run(line, check=True, cwd=REPOSITORY, env=paths)
    bench = Bench(folder, json.loads((folder / "answers.json").read_text()))
    yield bench
    bench.close()


@pytest.mark.parametrize("adapter", SHOWN, ids=lambda adapter: adapter.what)
async def test_the_verdict_is_right_on_this_release(
    adapter: Adapter, bench: Bench, record_property: Callable[[str, object], None]
) -> None:
    server = await asyncio.to_thread(bench.running)
    wrong = await becomes_of(adapter, server, bench)
    unknown = unsupported_features(RELEASE, adapter.features)
    verdict = adapter.refused or ("UnsupportedByEngine" if unknown else "accepted")
    right = (wrong is None) is (verdict == "accepted")
    record_property(ROW, ("right" if right else "WRONG", verdict, adapter.what, wrong or "answers as PEFT does"))
    assert right, wrong


async def becomes_of(adapter: Adapter, server: Server, bench: Bench) -> str | None:
    """What goes wrong with it there; None where it is answered as by PEFT."""
    async with target(server.url, RELEASE, Kind.USUAL, is_real=True) as real:
        reply = await real.load("a", bench.folder / "adapters" / adapter.folder)
        if reply.status != 200:
            return f"refused with {reply.status}: {reply.text[:300]}"
        fields = {"logprobs": 1, "return_tokens_as_token_ids": True}
        reply = await real.complete("a", prompt(), **fields)
        if reply.status != 200:
            return f"answers {reply.status}: {reply.text[:300]}"
        logprobs = reply.json["choices"][0]["logprobs"]
        tokens = [int(token.removeprefix("token_id:")) for token in logprobs["tokens"]]
        await real.unload("a")
        return differs(bench.answers[adapter.folder], tokens, logprobs["token_logprobs"])


def test_the_others_are_named(record_property: Callable[[str, object], None]) -> None:
    for other in OTHERS:
        what, _, why = other.rpartition(": ")
        record_property(ROW, ("", "not shown", what, why))
