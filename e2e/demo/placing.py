"""Adapters are declared, placed and asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from e2e.demo.errors import NotAsExpected
from e2e.demo.fleet import Fleet
from e2e.demo.shown import shown
from e2e.demo.stage import Stage
from e2e.demo.table import LEGEND
from e2e.demo.traffic import computed_by
from e2e.world.engines import Answer, EngineProbe
from e2e.world.world import BASE_MODEL

ALL_PODS = {"replicaPolicy": "AllPods"}


def declare(stage: Stage) -> str:
    """Two LoraAdapters for three adapters."""
    samples, screen = stage.samples, stage.screen
    samples.adapter("sql", seed=1)
    for seed, name in enumerate(("support-de", "support-en", "not-selected"), start=10):
        samples.adapter(f"team/{name}", seed=seed)
    sql = samples.lora_adapter("sql", "sql", deployment={"replicas": 2})
    support = samples.lora_adapter("support", "team", source={"prefix": "support-"}, deployment=ALL_PODS)
    screen.say(
        "The first LoraAdapter wants two replicas of one adapter; the second takes every folder whose name begins with "
        "support- and wants it on all pods. The operator finds the files, checks them, chooses pods, and loads."
    )
    screen.command(f"cat {shown(support)}")
    screen.output(_spec(support))
    screen.command(f"kubectl apply -f {shown(sql)} -f {shown(support)}")
    fleet, (there, ready) = stage.watching.until(
        "both LoraAdapters are Ready",
        lambda fleet: len(fleet.resources or {}) == 2,
        lambda fleet: fleet.ready("sql", "support"),
        act=lambda: stage.kubectl("apply", "-f", str(sql), "-f", str(support)),
    )
    screen.say(LEGEND)
    replicas = sum(len(pod.loaded or {}) for pod in fleet.pods)
    expected = 2 + 2 * len(fleet.pods)
    if replicas != expected:
        raise NotAsExpected(f"{expected} replicas were expected on {len(fleet.pods)} pods, and there are {replicas}")
    return f"3 adapters, {replicas} replicas: Ready {stage.watching.span(ready - there)} after the API server had them"


def ask(stage: Stage) -> str:
    """A completion from every pod that status names, and from one that it does not."""
    screen = stage.screen
    fleet = stage.watching.look()
    sql = fleet.resource("sql")
    assert sql is not None
    screen.say("Status names the pods that hold an adapter, with their addresses: that is where requests go.")
    addresses = "{range .status.podAssignments[*]}{.pod} {.address} {.adapters}{'\\n'}{end}"
    screen.command(f'kubectl get la sql -o jsonpath="{addresses}"')
    screen.output(stage.kubectl("get", "la", "sql", "-o", f"jsonpath={addresses}"))
    some = next(iter(sql.addresses.values()))
    body = '{"model": "sql", "prompt": "…", "max_tokens": 4}'
    screen.command(f"curl http://{some}/v1/completions -H 'Content-Type: application/json' -d '{body}'")
    base = EngineProbe(some).complete(BASE_MODEL)
    screen.output(f"without an adapter: {base.status} {base.text}")
    for pod, address in sql.addresses.items():
        answer = EngineProbe(address).complete("sql")
        screen.output(f"{pod}: {answer.status} {answer.text}")
        check_answer(stage, answer, "sql", base)
    elsewhere = _not_named(fleet, sql.addresses)
    if elsewhere:
        pod, address = elsewhere
        answer = EngineProbe(address).complete("sql")
        screen.output(f"{pod}: {answer.status}, as status does not name it")
        if answer.status != 404:
            raise NotAsExpected(f"{pod}, which status does not name, answered {answer.status}: {answer.text}")
    screen.command("kubectl get loraadapters -o wide")
    screen.output(stage.kubectl("get", "loraadapters", "-o", "wide"))
    return f"every pod that status names answered from the adapter's weights ({len(sql.addresses)} of sql)"


def check_answer(stage: Stage, answer: Answer, path: str, base: Answer) -> None:
    """It was computed by the weights in this folder of the source.

    Raises:
        NotAsExpected: it was not.
    """
    if answer.status != 200:
        raise NotAsExpected(f"a pod that status names answered {answer.status}: {answer.text}")
    if answer.weights and answer.weights != stage.samples.weights(path):
        raise NotAsExpected(f"answered from weights {answer.weights}, not from {stage.samples.weights(path)}")
    if computed_by(answer) == computed_by(base):
        raise NotAsExpected(f"answered {answer.text!r}, which is what the base model says without any adapter")


def _not_named(fleet: Fleet, addresses: Mapping[str, str]) -> tuple[str, str] | None:
    return next(((pod.name, pod.address) for pod in fleet.pods if pod.name not in addresses), None)


def _spec(file: Path) -> str:
    return file.read_text().partition("\nmetadata:")[2].partition("spec:")[2].strip("\n")
