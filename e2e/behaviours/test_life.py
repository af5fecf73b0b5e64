"""The life of a LoraAdapter: applied, Ready, changed, gone."""

from __future__ import annotations

import json

from e2e.behaviours.worlds import Worlds
from e2e.world import World
from e2e.world.promised import PROMISED_EXAMPLE
from e2e.world.world import BASE_MODEL, assigned, condition, eventually, failed


def test_an_applied_adapter_becomes_ready_and_answers_at_the_pods_that_status_names(fleet: World) -> None:
    fleet.adapter("sql")
    fleet.apply("sql", "sql", deployment={"replicas": 2})
    said = fleet.kubectl("wait", "--for=condition=Ready", "la/sql", "--timeout=60s")
    assert "condition met" in said
    status = fleet.get("sql")["status"]
    assert (status["phase"], status["loadedAdapters"], status["replicas"]) == ("Ready", ["sql"], 2)
    assert {condition(status, kind) for kind in ("SourceReady", "Scheduled", "Loaded", "Ready")} == {"True"}
    pods = assigned(status)
    assert len(pods) == 2
    for pod, engine in fleet.engines().items():
        answer = engine.complete("sql")
        assert (answer.status, answer.adapter) == ((200, "sql") if pod in pods else (404, "")), pod
    addresses = {item["pod"]: item["address"] for item in status["podAssignments"]}
    assert addresses == {pod: fleet.engine(pod).address for pod in pods}


def test_kubectl_get_shows_phase_readiness_and_counts(fleet: World) -> None:
    fleet.adapter("good", inside="both")
    fleet.adapter("torn", inside="both", config_rank=4)
    fleet.apply("both", "both")
    fleet.wait("both", lambda status: status.get("phase") == "Partial")
    header, row = fleet.kubectl("get", "la", "both").splitlines()
    assert header.split() == ["NAME", "PHASE", "READY", "BASE", "MODEL", "SOURCE", "ADAPTERS", "REPLICAS", "AGE"]
    assert row.split()[:7] == ["both", "Partial", "False", BASE_MODEL, "local", "1/2", "1"]
    wide = fleet.kubectl("get", "loraadapters", "both", "-o", "wide")
    assert "1 of 2 adapters ready: torn: " in wide
    assert "both" in fleet.kubectl("get", "lora")


def test_events_tell_when_it_becomes_ready_and_why_an_adapter_fails_once(fleet: World) -> None:
    fleet.adapter("good", inside="told")
    fleet.apply("told", "told")
    fleet.wait_ready("told")
    eventually(lambda: [e["reason"] for e in fleet.events("told")] == ["Ready"], what=["an Event says Ready"])
    fleet.adapter("torn", inside="told", config_rank=4)
    fleet.wait("told", lambda status: failed(status) == {"torn": "RankMismatch"})
    eventually(lambda: len(fleet.events("told")) == 2, what=["an Event says why"])
    (warning,) = (event for event in fleet.events("told") if event["type"] == "Warning")
    assert warning["reason"] == "RankMismatch"
    assert warning["message"].startswith("torn: ")
    assert warning["count"] == 1


def test_the_promised_example_applies_as_it_stands_and_says_what_it_lacks(fleet: World) -> None:
    fleet.kubectl("apply", "-f", "-", input=PROMISED_EXAMPLE)
    body = fleet.wait("example-adapter", lambda status: condition(status, "SourceReady") == "False")
    status = body["status"]
    assert status["phase"] == "Failed"
    assert condition(status, "Ready") == "False"
    (source,) = (c for c in status["conditions"] if c["type"] == "SourceReady")
    assert source["reason"] == "SecretForbidden"
    assert "give its service account the right to get this one Secret" in source["message"]
    # what the file claimed about status is not believed
    assert not status.get("loadedAdapters")
    assert not assigned(status)


def test_the_same_again_writes_nothing(fleet: World) -> None:
    fleet.adapter("sql")
    fleet.apply("sql", "sql")
    before = fleet.wait_ready("sql")
    fleet.apply("sql", "sql")
    fleet.apply("other", "sql", deployment={"loadOnStartup": False})
    fleet.wait("other", lambda status: status.get("observedGeneration") == 1)
    assert fleet.get("sql")["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


def test_scaling_with_kubectl_adds_and_removes_replicas(fleet: World) -> None:
    fleet.adapter("sql")
    fleet.apply("sql", "sql")
    fleet.wait_ready("sql")
    fleet.kubectl("scale", "la/sql", "--replicas=3")
    body = fleet.wait_ready("sql")
    assert (body["status"]["replicas"], len(assigned(body["status"]))) == (3, 3)
    scale = json.loads(fleet.kubectl("get", "la", "sql", "--subresource=scale", "-o", "json"))
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (3, 3)
    assert scale["status"]["selector"]
    fleet.kubectl("scale", "la/sql", "--replicas=1")
    body = fleet.wait("sql", lambda status: status["replicas"] == 1 and status["observedGeneration"] == 3)
    eventually(lambda: _holders(fleet, "sql") == set(assigned(body["status"])), what=["one pod holds it"])


def test_no_replicas_means_unloaded_and_the_status_says_so(fleet: World) -> None:
    fleet.adapter("sql")
    fleet.apply("sql", "sql")
    fleet.wait_ready("sql")
    fleet.apply("sql", "sql", deployment={"replicas": 0})
    body = fleet.wait("sql", lambda status: status["observedGeneration"] == 2 and not assigned(status))
    (ready,) = (c for c in body["status"]["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ScaledToZero")
    eventually(lambda: not _holders(fleet, "sql"), what=["no pod holds it"])
    fleet.kubectl("scale", "la/sql", "--replicas=1")
    fleet.wait_ready("sql")


def test_an_adapter_that_is_not_to_be_loaded_on_startup_is_checked_and_says_so(fleet: World) -> None:
    # of a name that no other test asks engines for: who was asked for lately is loaded
    fleet.adapter("reserve")
    fleet.apply("reserve", "reserve", deployment={"loadOnStartup": False})
    body = fleet.wait("reserve", lambda status: condition(status, "SourceReady") == "True")
    (ready,) = (c for c in body["status"]["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "LoadOnDemand")
    assert body["status"]["adapters"][0]["rank"] == 8
    assert not _holders(fleet, "reserve")


def test_another_folder_in_the_spec_exchanges_the_adapters(fleet: World) -> None:
    fleet.adapter("old", inside="first")
    fleet.adapter("new", inside="second")
    fleet.apply("mine", "first")
    fleet.wait_ready("mine")
    fleet.apply("mine", "second")
    body = fleet.wait(
        "mine", lambda status: status["observedGeneration"] == 2 and status.get("loadedAdapters") == ["new"]
    )
    assert body["status"]["phase"] == "Ready"
    eventually(lambda: not _holders(fleet, "old"), what=["the old one is unloaded"])


def test_no_status_of_the_new_spec_shows_what_was_found_for_the_old_one(worlds: Worlds) -> None:
    world = worlds(1, operator=("--status-quiet-seconds", "0"))  # every state in between is written
    world.adapter("old", inside="first")
    world.adapter("new", inside="second")
    world.apply("mine", "first")
    before = world.wait_ready("mine")["metadata"]["resourceVersion"]
    world.apply("mine", "second")
    world.kubectl("wait", "--for=condition=Ready", "la/mine", "--timeout=60s")
    assert world.get("mine")["status"]["loadedAdapters"] == ["new"]
    for body in world.rest.history(world.collection, "mine", before):
        status = body["status"]
        if status["observedGeneration"] == 2:
            assert [item["name"] for item in status.get("adapters", [])] == ["new"], status


def test_the_refresh_annotation_has_the_source_read_at_once(worlds: Worlds) -> None:
    world = worlds(1, operator=("--source-seconds", "3600"))
    world.adapter("sql")
    world.apply("sql", "sql")
    before = world.wait_ready("sql")["status"]["adapters"][0]["fingerprint"]
    world.adapter("sql", seed=1)
    world.kubectl("annotate", "la/sql", "production-stack.vllm-project/refresh=now")
    body = world.wait("sql", lambda status: status["adapters"][0]["fingerprint"] != before)
    assert body["metadata"]["generation"] == 1
    world.wait_ready("sql")


def test_deleting_it_unloads_it_everywhere(fleet: World) -> None:
    fleet.adapter("sql")
    fleet.apply("sql", "sql", deployment={"replicaPolicy": "AllPods"})
    fleet.wait_ready("sql")
    assert len(_holders(fleet, "sql")) == 3
    fleet.kubectl("delete", "la/sql", "--timeout=60s")
    assert not _holders(fleet, "sql")
    assert not fleet.get("sql")


def _holders(world: World, name: str) -> set[str]:
    return {pod for pod, engine in world.engines().items() if name in engine.models()}
