"""Where replicas go, and why they do not: replicas, selectors, limits, priority."""

from __future__ import annotations

from e2e.behaviours.worlds import Worlds
from e2e.world import World
from e2e.world.rest import Json
from e2e.world.world import assigned, condition, eventually, failed

PODS = {"vllm-0", "vllm-1", "vllm-2"}


def test_two_replicas_are_on_two_pods(fleet: World) -> None:
    for name in ("a", "b", "c"):
        fleet.adapter(name, inside="three")
    fleet.apply("three", "three", deployment={"replicas": 2})
    pods = assigned(fleet.wait_ready("three")["status"])
    replicas = [name for names in pods.values() for name in names]
    assert sorted(replicas) == ["a", "a", "b", "b", "c", "c"]
    assert sorted(len(names) for names in pods.values()) == [2, 2, 2]


def test_more_replicas_than_pods_fills_them_and_says_what_is_missing(fleet: World) -> None:
    fleet.adapter("sql")
    fleet.apply("sql", "sql", deployment={"replicas": 5})
    body = fleet.wait("sql", lambda status: len(assigned(status)) == 3)
    status = body["status"]
    assert condition(status, "Ready") == "False"
    assert condition(status, "Scheduled") == "False"
    assert status["adapters"][0]["replicas"] == 5
    assert status["adapters"][0]["loaded"] == 3
    (scheduled,) = (c for c in status["conditions"] if c["type"] == "Scheduled")
    assert scheduled["reason"] == "NotEnoughPods"
    assert scheduled["message"].startswith("sql: 3 of 5 replicas have a pod")


def test_a_selector_with_expressions_chooses_the_pods(worlds: Worlds) -> None:
    world = worlds(1, name="gold", labels={"tier": "gold"})
    world.start_pods(1, name="silver", labels={"tier": "silver"})
    world.start_pods(1, name="plain")
    world.adapter("sql")
    selector: Json = {
        "matchExpressions": [
            {"key": "tier", "operator": "Exists"},
            {"key": "tier", "operator": "NotIn", "values": ["gold"]},
        ]
    }
    world.apply("sql", "sql", deployment={"replicaPolicy": "AllPods", "podSelector": selector})
    assert set(assigned(world.wait_ready("sql")["status"])) == {"silver-0"}
    # another selector moves it; where it no longer matches, it may not stay even for a moment
    world.apply("sql", "sql", deployment={"podSelector": {"matchLabels": {"tier": "gold"}}})
    body = world.wait("sql", lambda status: set(assigned(status)) == {"gold-0"} and status["observedGeneration"] == 2)
    assert body["status"]["selector"] == "tier=gold"
    eventually(lambda: not world.engine("silver-0").models(), what=["silver-0 has let go"])
    assert condition(world.wait_ready("sql")["status"], "Scheduled") == "True"


def test_all_pods_means_also_a_pod_that_comes_later(worlds: Worlds) -> None:
    world = worlds(2)
    world.adapter("sql")
    world.apply("sql", "sql", deployment={"replicaPolicy": "AllPods"})
    assert set(assigned(world.wait_ready("sql")["status"])) == {"vllm-0", "vllm-1"}
    world.kubectl("scale", "statefulset/vllm", "--replicas=3")
    body = world.wait("sql", lambda status: set(assigned(status)) == PODS)
    assert world.engine("vllm-2").complete("sql").adapter == "sql"
    assert condition(body["status"], "Ready") == "True"
    world.kubectl("scale", "statefulset/vllm", "--replicas=1")
    body = world.wait("sql", lambda status: set(assigned(status)) == {"vllm-0"} and status["replicas"] == 1)
    assert condition(world.wait_ready("sql")["status"], "Ready") == "True"


def test_no_pods_at_all_is_said_and_heals_when_pods_come(worlds: Worlds) -> None:
    world = worlds(0)
    world.adapter("sql")
    world.apply("sql", "sql")
    body = world.wait("sql", lambda status: condition(status, "Scheduled") == "False")
    (ready,) = (c for c in body["status"]["conditions"] if c["type"] == "Ready")
    assert ready["reason"] == "NoMatchingPods"
    assert "no pod serves this base model" in ready["message"]
    assert body["status"]["phase"] == "Pending"
    world.start_pods(1)
    world.wait_ready("sql")


def test_a_rank_above_the_limit_is_refused_with_the_numbers(fleet: World) -> None:
    fleet.adapter("wide", rank=64)
    fleet.apply("wide", "wide")
    body = fleet.wait("wide", lambda status: bool(failed(status)))
    (entry,) = body["status"]["failedAdapters"]
    assert entry["code"] == "RankTooHigh"
    assert entry["message"] == "rank 64 exceeds max_lora_rank 16 on 3 of 3 pods"
    assert {pod["pod"] for pod in entry["pods"]} == PODS
    assert body["status"]["phase"] == "Failed"
    (ready,) = (c for c in body["status"]["conditions"] if c["type"] == "Ready")
    assert "rank 64 exceeds max_lora_rank 16 on 3 of 3 pods" in ready["message"]
    assert all(not engine.models() for engine in fleet.engines().values())


def test_a_pod_takes_part_without_our_label_if_the_selector_matches_it(worlds: Worlds) -> None:
    world = worlds(1, labels={"production-stack.vllm-project/lora": "no", "team": "search"})
    world.adapter("sql")
    world.apply("sql", "sql")
    world.wait("sql", lambda status: condition(status, "Scheduled") == "False")
    world.apply("sql", "sql", deployment={"podSelector": {"matchLabels": {"team": "search"}}})
    assert set(assigned(world.wait_ready("sql")["status"])) == {"vllm-0"}


def test_a_feature_that_the_engines_release_ignores_is_refused_there_and_nowhere_else(worlds: Worlds) -> None:
    world = worlds(1, name="old", release="0.28.0")
    world.adapter("sql", alpha_pattern={"q_proj": 32})
    world.apply("sql", "sql")
    body = world.wait("sql", lambda status: failed(status) == {"sql": "UnsupportedByEngine"})
    assert "vLLM 0.28.0 ignores alpha_pattern" in body["status"]["failedAdapters"][0]["message"]
    assert not world.engine("old-0").models()
    world.start_pods(1, name="new", release="0.32.0")
    assert set(assigned(world.wait_ready("sql")["status"])) == {"new-0"}


def test_pods_that_mount_the_volume_elsewhere_get_paths_of_their_own(worlds: Worlds) -> None:
    world = worlds(0)
    mount = world.directory / "in-the-pod"
    mount.symlink_to(world.volume)
    world.start_pods(1, annotations={"adapter-root": str(mount)})
    world.adapter("sql")
    world.apply("sql", "sql")
    fingerprint = world.wait_ready("sql")["status"]["adapters"][0]["fingerprint"]
    assert world.engine("vllm-0").models() == {"sql": str(mount / "sql" / fingerprint)}
    world.kubectl("delete", "la/sql", "--timeout=60s")
    assert not world.engine("vllm-0").models()


def test_pods_of_another_namespace_are_never_used(worlds: Worlds) -> None:
    other = worlds(0, operator=None)
    world = worlds(1, operator=("--namespace", other.namespace))
    world.adapter("sql")
    # the same operator looks after both, and the only pods are here
    world.rest.create(other.collection, other.manifest("sql", "sql", source={"repository": str(world.source / "sql")}))
    body = other.wait("sql", lambda status: condition(status, "Scheduled") == "False")
    assert _reason(body["status"], "Scheduled") == "NoMatchingPods"
    world.apply("sql", "sql")
    world.wait_ready("sql")
    assert not assigned(other.get("sql")["status"])


def test_auto_without_known_demand_means_the_least_replicas(fleet: World) -> None:
    fleet.adapter("sql")
    fleet.apply("sql", "sql", deployment={"replicaPolicy": "Auto", "replicas": 2, "maxReplicas": 3})
    assert len(assigned(fleet.wait_ready("sql")["status"])) == 2


def test_memory_is_counted_against_the_pods_budget(worlds: Worlds) -> None:
    world = worlds(2, annotations={"lora-memory": "1Gi"})
    for name in ("first", "second", "huge"):
        world.adapter(name)
    need = {"resourceRequirements": {"memory": "600Mi"}}
    world.apply("first", "first", deployment={"replicas": 2}, scheduling=need)
    world.wait_ready("first")
    world.apply("second", "second", scheduling=need)
    body = world.wait("second", lambda status: failed(status) == {"second": "NotEnoughMemory"})
    (entry,) = body["status"]["failedAdapters"]
    assert entry["reason"] == "Not enough memory"
    assert entry["message"] == "needs 0.6 GiB, 0.4 GiB of 1.0 GiB is free on 2 of 2 pods"
    world.apply("huge", "huge", scheduling={"resourceRequirements": {"memory": "2Gi"}})
    body = world.wait("huge", lambda status: failed(status) == {"huge": "ExceedsPodMemory"})
    (entry,) = body["status"]["failedAdapters"]
    assert entry["message"] == "needs 2.0 GiB, the pod's whole budget is 1.0 GiB on 2 of 2 pods"
    world.kubectl("scale", "la/first", "--replicas=1")
    world.wait_ready("second")
    assert [len(engine.models()) for engine in world.engines().values()] == [1, 1]


def test_slots_are_counted_and_a_freed_one_is_used_at_once(worlds: Worlds) -> None:
    world = worlds(1, max_loras=1, max_cpu_loras=2)
    for name in ("a", "b", "c"):
        world.adapter(name)
        world.apply(name, name)
        if name != "c":
            world.wait_ready(name)
    body = world.wait("c", lambda status: failed(status) == {"c": "NoFreeSlot"})
    assert body["status"]["failedAdapters"][0]["message"] == "2 of 2 slots are taken on 1 of 1 pods"
    world.kubectl("delete", "la/a", "--timeout=60s")
    world.wait_ready("c")
    assert set(world.engine("vllm-0").models()) == {"b", "c"}


def test_a_higher_priority_takes_the_room_of_a_lower_one_which_says_so(worlds: Worlds) -> None:
    world = worlds(1, max_loras=1, max_cpu_loras=1)
    world.adapter("low")
    world.adapter("high")
    world.apply("low", "low", scheduling={"priority": 1})
    world.wait_ready("low")
    world.apply("high", "high", scheduling={"priority": 10, "preemptionPolicy": "LowerPriority"})
    world.wait_ready("high")
    body = world.wait("low", lambda status: failed(status) == {"low": "NoFreeSlot"})
    assert not assigned(body["status"])
    assert condition(body["status"], "Ready") == "False"
    eventually(lambda: "Preempted" in [event["reason"] for event in world.events("low")], what=["an Event says so"])
    (event,) = (event for event in world.events("low") if event["reason"] == "Preempted")
    assert event["message"] == (
        f"low leaves pod vllm-0 to make room for high of LoraAdapter {world.namespace}/high: priority 10 goes before 1"
    )
    assert set(world.engine("vllm-0").models()) == {"high"}
    world.kubectl("delete", "la/high", "--timeout=60s")
    world.wait_ready("low")


def test_without_preemption_a_higher_priority_waits(worlds: Worlds) -> None:
    world = worlds(1, max_loras=1, max_cpu_loras=1)
    world.adapter("low")
    world.adapter("high")
    world.apply("low", "low", scheduling={"priority": 1})
    world.wait_ready("low")
    world.apply("high", "high", scheduling={"priority": 10, "preemptionPolicy": "None"})
    world.wait("high", lambda status: failed(status) == {"high": "NoFreeSlot"})
    assert set(world.engine("vllm-0").models()) == {"low"}
    assert condition(world.get("low")["status"], "Ready") == "True"
    world.kubectl("delete", "la/low", "--timeout=60s")
    world.wait_ready("high")


def _reason(status: Json, kind: str) -> str:
    return next((str(c["reason"]) for c in status["conditions"] if c["type"] == kind), "")
