"""`kubectl lora` with the real API server, agents and operator: what it shows, and what it has them do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.behaviours.from_stores import apply, offer
from e2e.behaviours.worlds import Worlds
from e2e.demo.uploads import WebUpload
from e2e.world import World
from e2e.world.world import ROOT, eventually
from lora_operator.plugin.main import main

PEERS = ROOT / "tests" / "plugin" / "peers"
Lora = Callable[..., tuple[int, str]]


@pytest.fixture
def lora(capsys: pytest.CaptureFixture[str]) -> Callable[[World], Lora]:
    """`kubectl lora` as the administrator in a world's namespace: exit status, and what it printed on both streams."""

    def in_world(world: World) -> Lora:
        def run(*arguments: str) -> tuple[int, str]:
            capsys.readouterr()
            status = main([*arguments, "-n", world.namespace, "--kubeconfig", str(world.plane.kubeconfig)])
            printed = capsys.readouterr()
            return status, printed.out + printed.err

        return run

    return in_world


def as_plugin(world: World, *arguments: str) -> str:
    """The way users start it: kubectl finds `kubectl-lora` on the PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PATH": path, "KUBECONFIG": str(world.plane.kubeconfig)}
    command = [str(world.plane.kubectl_path), "lora", *arguments, "-n", world.namespace]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=60).stdout


def documents(answer: tuple[int, str]) -> Any:
    assert answer[0] == 0, answer[1]
    return json.loads(answer[1])


def test_people_see_where_adapters_are_and_why_not_and_what_would_be(
    worlds: Worlds, lora: Callable[[World], Lora], capsys: pytest.CaptureFixture[str]
) -> None:
    world = worlds(2, max_loras=2, max_cpu_loras=3, annotations={"production-stack.vllm-project/lora-memory": "1Gi"})
    ask = lora(world)
    world.adapter("sql")
    world.adapter("wide", rank=32)
    world.apply("sql", "sql", deployment={"replicas": 2})
    world.apply("wide", "wide")
    world.wait_ready("sql")
    world.wait("wide", lambda status: bool(status.get("failedAdapters")))

    table = as_plugin(world, "get").splitlines()
    assert table[0].split() == ["ADAPTER", "LORAADAPTER", "BASE", "MODEL", "REPLICAS", "STATE", "PODS"]
    assert table[1].split() == ["sql", "sql", "tiny", "2/2", "Ready", "vllm-0,vllm-1"]
    assert table[2].split() == ["wide", "wide", "tiny", "0/1", "Failed", "(RankTooHigh)", "-"]

    assert {a["reason"] for a in documents(ask("why", "sql", "-o", "json"))["pods"]} == {"Holds"}
    why = documents(ask("why", "wide", "-o", "json"))["pods"]
    assert [(a["pod"], a["reason"], a["source"]) for a in why] == [
        ("vllm-0", "RankTooHigh", "status"),
        ("vllm-1", "RankTooHigh", "status"),
    ]
    status, said = ask("why", "sqll")
    assert (status, "did you mean sql?" in said) == (1, True)

    pods = documents(ask("pods", "-o", "json"))
    assert [(p["pod"], p["slots"]["used"], p["slots"]["most"], p["adapters"]) for p in pods] == [
        ("vllm-0", 1, 3, ["sql"]),
        ("vllm-1", 1, 3, ["sql"]),
    ]
    busy = documents(ask("top", "--once", "--direct", "-o", "json"))
    assert [(p["pod"], p["holds"], p["running"]) for p in busy] == [("vllm-0", ["sql"], 0), ("vllm-1", ["sql"], 0)]

    more = world.directory / "more.yaml"
    more.write_text(json.dumps(world.manifest("chat", "chat", deployment={"replicas": 3})))
    world.adapter("chat")
    status, said = ask("plan", "--add", str(more), "--pods-needed", "--direct", "-o", "json")
    assert status == 3
    planned = json.loads(said)
    assert planned["notes"] == []
    assert {(step["action"], step["adapter"]) for step in planned["steps"]} == {("load", "chat")}
    assert {item["adapter"].rpartition("/")[2]: item["missing"] for item in planned["unplaced"]} == {
        "chat": 1,
        "wide": 1,
    }
    assert [(need["pods"], need["placed"], need["enough"]) for need in planned["podsNeeded"]] == [(1, 1, False)]
    assert "chat" not in world.engine("vllm-0").models()

    main(["migrate", *(str(PEERS / name) for name in ("production-stack.yaml", "lora-syncer.yaml"))])
    taken = world.kubectl("apply", "--dry-run=server", "-f", "-", input=capsys.readouterr().out)
    assert taken.count("created (server dry run)") == 5

    status, said = ask("plan", "--remove-pod", "vllm-1")
    assert status == 3
    assert "sql: 1 replica without a place" in said


def test_people_pin_evict_and_refresh(worlds: Worlds, lora: Callable[[World], Lora]) -> None:
    world = worlds(1, agent=(), operator=("--source-seconds", "600"))
    ask = lora(world)
    agents = ("--direct", "--token-file", str(world.token_file))
    store = WebUpload()
    try:
        apply(world, "chat", offer(world, store, "chat"))
        first = world.wait_ready("chat")["status"]["adapters"][0]["fingerprint"]

        offer(world, store, "chat", seed=7)
        status, said = ask("refresh", "chat")
        assert (status, said) == (0, "loraadapter/chat: its source is looked at again now\n")
        body = world.wait("chat", lambda status: status["adapters"][0]["fingerprint"] != first)
        second = body["status"]["adapters"][0]["fingerprint"]
        world.wait_ready("chat")

        def kept() -> dict[str, tuple[bool, bool]]:
            (disk,) = documents(ask("cache", "-o", "json", *agents))
            return {e["fingerprint"]: (e["loaded"], e["pinned"]) for e in disk["entries"]}

        eventually(
            lambda: kept() == {first: (False, False), second: (True, False)}, what=["the old version was let go"]
        )

        assert ask("pin", "chat")[0] == 0
        eventually(lambda: kept().get(second) == (True, True), what=["the agent knows of the pin"])
        status, said = ask("evict", "chat", *agents)
        assert status == 1
        (gone,) = [line for line in said.splitlines() if first[:8] in line]
        (there,) = [line for line in said.splitlines() if second[:8] in line]
        assert gone.endswith("removed")
        assert "stays" in there and "unload it first" in there

        world.kubectl("patch", "la", "chat", "--type=merge", "-p", '{"spec":{"deploymentConfig":{"replicas":0}}}')
        eventually(lambda: kept() == {second: (False, True)}, what=["it is unloaded and stays pinned"])
        status, said = ask("evict", "chat", *agents)
        assert (status, "is pinned by its LoraAdapter" in said) == (1, True)

        assert ask("unpin", "chat")[0] == 0
        eventually(lambda: kept() == {second: (False, False)}, what=["the pin is taken back"])
        status, said = ask("evict", "chat", "--pod", "vllm-0", *agents)
        assert (status, "removed" in said) == (0, True)
        assert kept() == {}
        assert not (world.disk / "chat" / second).exists()
    finally:
        store.close()
