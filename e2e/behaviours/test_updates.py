"""New weights at the source: rolled out pod by pod, answered throughout, and never from the old ones' cached prefix."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from e2e.behaviours.client import PROMPT, Client, digest_of
from e2e.behaviours.worlds import Worlds
from e2e.world import World
from e2e.world.rest import Json
from e2e.world.world import assigned, condition, eventually, failed

WITHDRAW_SECONDS = 1.0  # a request that is answered within that after status was read counts, on a busy machine too
LETS_GO = ("--withdraw-seconds", str(WITHDRAW_SECONDS))


@pytest.mark.parametrize("release", ["0.10.2", "0.16.0", "0.28.0", "0.32.0"])
def test_new_versions_are_answered_throughout_and_never_from_a_stale_prefix(worlds: Worlds, release: str) -> None:
    world = worlds(2, release=release, operator=LETS_GO)
    versions = [_publish(world, seed=0)]
    world.apply("sql", "sql", deployment={"replicas": 2})
    world.wait_ready("sql")
    with Client(world, "sql", "sql") as client:
        for seed in (1, 2, 3):
            _wait_asked(client, since=time.monotonic())
            versions.append(_publish(world, seed=seed))
            body = world.wait("sql", _is_ready_with(world))
            assert len(assigned(body["status"])) == 2
            arrived = time.monotonic()
            _wait_asked(client, since=arrived)
            assert {request.answer.weights for request in client.since(arrived)} == {versions[-1]}
    _all_answered(client)
    assert {request.answer.weights for request in client.requests} == set(versions)
    # the same prompt was found in the cache, so that a stale answer would have shown
    assert any(request.answer.cached not in ("", "none") for request in client.requests)
    # nothing is left of the versions before
    eventually(lambda: all(len(engine.models()) == 1 for engine in world.engines().values()), what=["one version each"])


def test_one_pod_is_exchanged_at_a_time(worlds: Worlds) -> None:
    world = worlds(3, operator=LETS_GO)
    _publish(world, seed=0)
    world.apply("sql", "sql", deployment={"replicas": 3})
    world.wait_ready("sql")
    _publish(world, seed=1)
    world.wait("sql", _is_ready_with(world))
    changes = sorted(
        (event["at"], event["event"], pod)
        for pod, engine in world.engines().items()
        for event in engine.events()
        if event["event"] in ("load", "unload")
    )[3:]
    # unload, load on one pod before the next is touched
    assert [kind for _, kind, _ in changes] == ["unload", "load"] * 3
    assert [first[2] for first in changes[::2]] == [second[2] for second in changes[1::2]]


def test_a_single_copy_moves_so_that_the_old_one_serves_until_the_new_one_does(worlds: Worlds) -> None:
    world = worlds(2, operator=LETS_GO)
    versions = [_publish(world, seed=0)]
    world.apply("sql", "sql")
    world.wait_ready("sql")
    with Client(world, "sql", "sql") as client:
        _wait_asked(client, since=time.monotonic())
        versions.append(_publish(world, seed=1))
        world.wait("sql", _is_ready_with(world))
        _wait_asked(client, since=time.monotonic())
    _all_answered(client)
    assert {request.answer.weights for request in client.requests} == set(versions)


def test_without_versioned_names_a_stale_prefix_cache_refuses_the_roll_out_and_the_old_version_serves(
    worlds: Worlds,
) -> None:
    world = worlds(2, release="0.28.0", operator=("--no-versioned-names", *LETS_GO))
    old = _publish(world, seed=0)
    world.apply("sql", "sql", deployment={"replicas": 2})
    world.wait_ready("sql")
    with Client(world, "sql", "sql") as client:
        _publish(world, seed=1)
        body = world.wait("sql", lambda status: failed(status) == {"sql": "StalePrefixCache"})
        _wait_asked(client, since=time.monotonic())
    assert condition(body["status"], "Ready") == "False"
    assert body["status"]["phase"] == "Partial"
    assert set(assigned(body["status"])) == {"vllm-0", "vllm-1"}
    assert "restart the pod" in body["status"]["failedAdapters"][0]["message"]
    _all_answered(client)
    assert {request.answer.weights for request in client.requests} == {old}
    # the advice helps: a container that has served nothing yet takes the new version
    for pod in ("vllm-0", "vllm-1"):
        world.pods.kill_container(world.namespace, pod)
    world.wait("sql", _is_ready_with(world))


def test_without_prefix_caching_the_name_stays_as_it_is(worlds: Worlds) -> None:
    world = worlds(2, "--no-enable-prefix-caching", release="0.28.0", operator=LETS_GO)
    _publish(world, seed=0)
    world.apply("sql", "sql", deployment={"replicas": 2})
    world.wait_ready("sql")
    new = _publish(world, seed=1)
    body = world.wait("sql", _is_ready_with(world))
    for pod in assigned(body["status"]):
        engine = world.engine(pod)
        assert set(engine.models()) == {"sql"}
        assert engine.complete("sql", PROMPT).weights == new


def test_a_restarted_operator_finds_versioned_names_in_order_and_changes_nothing(worlds: Worlds) -> None:
    world = worlds(2, release="0.28.0", operator=LETS_GO)
    _publish(world, seed=0)
    world.apply("sql", "sql", deployment={"replicas": 2})
    world.wait_ready("sql")
    _publish(world, seed=1)
    before = world.wait("sql", _is_ready_with(world))
    eventually(lambda: all(len(engine.models()) == 1 for engine in world.engines().values()), what=["one version each"])
    done = {pod: len(engine.events()) for pod, engine in world.engines().items()}
    assert world.operator is not None
    world.operator.kill()
    world.start_operator(*LETS_GO)
    world.adapter("other")
    world.apply("other", "other")
    world.wait_ready("other")  # by then it has planned with everything that it found
    assert world.get("sql")["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    after = {
        pod: [event for event in engine.events()[done[pod] :] if event.get("name") != "other"]
        for pod, engine in world.engines().items()
    }
    assert after == {"vllm-0": [], "vllm-1": []}


@pytest.mark.parametrize("release", ["0.28.0", "0.32.0"])
def test_full_pods_are_exchanged_one_after_the_other(worlds: Worlds, release: str) -> None:
    world = worlds(2, release=release, max_loras=1, max_cpu_loras=1, operator=LETS_GO)
    versions = [_publish(world, seed=0)]
    world.apply("sql", "sql", deployment={"replicas": 2})
    world.wait_ready("sql")
    with Client(world, "sql", "sql") as client:
        _wait_asked(client, since=time.monotonic())
        versions.append(_publish(world, seed=1))
        world.wait("sql", _is_ready_with(world))
        _wait_asked(client, since=time.monotonic())
    _all_answered(client)
    assert {request.answer.weights for request in client.requests} == set(versions)


def test_the_only_copy_on_the_only_pod_comes_back_to_an_earlier_version_without_a_gap(worlds: Worlds) -> None:
    # this release's prefix cache is keyed by name, so that both versions can be there side by side
    world = worlds(1, release="0.28.0", operator=LETS_GO)
    first = _publish(world, seed=0)
    world.apply("sql", "sql")
    world.wait_ready("sql")
    with Client(world, "sql", "sql") as client:
        for seed in (1, 2, 0):
            _wait_asked(client, since=time.monotonic())
            _publish(world, seed=seed)
            world.wait("sql", _is_ready_with(world))
        arrived = time.monotonic()
        _wait_asked(client, since=arrived)
        assert {request.answer.weights for request in client.since(arrived)} == {first}
    _all_answered(client)


def test_pods_of_different_releases_are_each_updated_in_their_way(worlds: Worlds) -> None:
    world = worlds(1, name="old", release="0.28.0", operator=LETS_GO)
    world.start_pods(1, name="new", release="0.32.0")
    _publish(world, seed=0)
    world.apply("sql", "sql", deployment={"replicaPolicy": "AllPods"})
    world.wait("sql", lambda status: condition(status, "Ready") == "True" and len(assigned(status)) == 2)
    with Client(world, "sql", "sql") as client:
        _wait_asked(client, since=time.monotonic())
        new = _publish(world, seed=1)
        body = world.wait("sql", _is_ready_with(world))
        arrived = time.monotonic()
        _wait_asked(client, since=arrived)
        assert {request.answer.weights for request in client.since(arrived)} == {new}
    _all_answered(client)
    names = {item["pod"]: item.get("engineNames", []) for item in body["status"]["podAssignments"]}
    fingerprint = body["status"]["adapters"][0]["fingerprint"]
    assert names == {"new-0": [], "old-0": [{"name": "sql", "engineName": f"sql--{fingerprint[:8]}"}]}


def test_a_version_that_changes_again_in_mid_roll_out_is_not_waited_for(worlds: Worlds) -> None:
    world = worlds(2, release="0.16.0", operator=LETS_GO)
    versions = [_publish(world, seed=0)]
    world.apply("sql", "sql", deployment={"replicas": 2})
    world.wait_ready("sql")
    for engine in world.engines().values():
        engine.fault(kind="slow", endpoint="load", seconds=0.5)
    with Client(world, "sql", "sql") as client:
        versions.append(_publish(world, seed=1))
        eventually(lambda: any(len(e.models()) == 2 for e in world.engines().values()), what=["the roll-out began"])
        versions.append(_publish(world, seed=2))
        world.wait("sql", _is_ready_with(world))
        arrived = time.monotonic()
        _wait_asked(client, since=arrived)
        assert {request.answer.weights for request in client.since(arrived)} == {versions[-1]}
    _all_answered(client)
    assert {request.answer.weights for request in client.requests} <= set(versions)
    eventually(lambda: all(len(engine.models()) == 1 for engine in world.engines().values()), what=["one version each"])


def test_a_roll_out_that_fails_on_the_first_pod_goes_no_further(worlds: Worlds) -> None:
    world = worlds(2, operator=("--retry-seconds", "0.2", *LETS_GO))
    old = _publish(world, seed=0)
    world.apply("sql", "sql", deployment={"replicas": 2})
    world.wait_ready("sql")
    for engine in world.engines().values():
        engine.fault(kind="status", endpoint="load", status=500)
    with Client(world, "sql", "sql") as client:
        _publish(world, seed=1)
        body = world.wait("sql", lambda status: failed(status) == {"sql": "LoadFailed"})
        _wait_asked(client, since=time.monotonic())
        assert {request.answer.weights for request in client.requests} == {old}
        assert len(assigned(body["status"])) == 1
        assert body["status"]["phase"] == "Partial"
        for engine in world.engines().values():
            engine.heal()
        world.wait("sql", _is_ready_with(world))
    _all_answered(client)


def test_adapters_that_were_loaded_at_once_are_all_known_to_have_been_served(worlds: Worlds) -> None:
    world = worlds(1, release="0.28.0", operator=LETS_GO)
    names = ["a", "b", "c", "d"]
    for name in names:
        world.adapter(name, inside="four", seed=0)
    world.apply("four", "four")
    world.wait_ready("four")
    engine = world.engine("vllm-0")
    for seed in (1, 2):
        models = {item["name"]: item["engineName"] for item in _assignment(world, "four").get("engineNames", ())}
        assert all(engine.complete(models.get(name, name), PROMPT).status == 200 for name in names)
        wanted = {
            name: digest_of(world.adapter(name, inside="four", seed=seed + 10 * i)) for i, name in enumerate(names)
        }
        world.wait("four", lambda status, wanted=wanted: _volume_digests(world, status) == wanted)  # type: ignore[misc]
        models = {item["name"]: item["engineName"] for item in _assignment(world, "four").get("engineNames", ())}
        answers = {name: engine.complete(models.get(name, name), PROMPT) for name in names}
        assert {name: answer.weights for name, answer in answers.items()} == wanted
        assert not [name for name, answer in answers.items() if answer.stale]


def test_what_a_stranger_served_under_the_name_is_never_answered_by_ours(worlds: Worlds) -> None:
    world = worlds(1, release="0.28.0", operator=LETS_GO)
    engine = world.engine("vllm-0")
    assert engine.load("sql", str(world.adapter("sql", inside="theirs", seed=9))) == 200
    theirs = engine.complete("sql", PROMPT)
    ours = _publish(world, seed=0)
    world.apply("sql", "sql")
    world.wait("sql", lambda status: failed(status) == {"sql": "NameTaken"})
    eventually(lambda: "foreign" in _pod_annotations(world, "vllm-0"), what=["it is noted on the pod"])
    assert engine.unload("sql") == 200
    world.wait_ready("sql")
    models = {item["name"]: item["engineName"] for item in _assignment(world, "sql")["engineNames"]}
    answer = engine.complete(models["sql"], PROMPT)
    assert (answer.weights, answer.stale) == (ours, False)
    assert theirs.weights != ours


def test_an_event_tells_of_a_new_version(fleet: World) -> None:
    _publish(fleet, seed=0)
    fleet.apply("sql", "sql")
    before = fleet.wait_ready("sql")["status"]["adapters"][0]["fingerprint"]
    _publish(fleet, seed=1)
    after = fleet.wait("sql", _is_ready_with(fleet))["status"]["adapters"][0]["fingerprint"]
    said = f"sql changed at its source: version {before} gives way to {after}"
    eventually(lambda: said in [event["message"] for event in fleet.events("sql")], what=["an Event says so"])


def _publish(world: World, *, seed: int) -> str:
    """Put these weights in the place of those that are there; what the engines call them."""
    return digest_of(world.adapter("sql", seed=seed))


def _is_ready_with(world: World) -> Callable[[Json], bool]:
    """Ready with what is at the source at this moment, as the digests of the pods' volume tell."""
    wanted = digest_of(world.source / "sql")

    def ready(status: Json) -> bool:
        fingerprint = status["adapters"][0]["fingerprint"]
        folder = world.volume / "sql" / fingerprint
        return condition(status, "Ready") == "True" and folder.is_dir() and digest_of(folder) == wanted

    return ready


def _wait_asked(client: Client, since: float) -> None:
    """Until every pod that serves has been asked a few times after that moment."""
    eventually(lambda: client.error is not None or len(client.since(since)) >= 6, what=["six more requests"])


def _all_answered(client: Client) -> None:
    """There was always a pod to ask; whoever asks it soon after reading status is answered; and nobody ever is from
    another version's cache."""
    assert not client.gaps
    assert not [request for request in client.requests if request.answer.stale]
    fresh = [request for request in client.requests if request.view_age_seconds < WITHDRAW_SECONDS]
    assert fresh
    assert not [request for request in fresh if request.answer.status != 200]


def _assignment(world: World, name: str) -> Json:
    """What status says of the only pod that holds it."""
    (only,) = world.get(name)["status"]["podAssignments"]
    return dict(only)


def _volume_digests(world: World, status: Json) -> dict[str, str]:
    """Adapter -> digest of the weights that status says are loaded; nothing until all are."""
    if condition(status, "Ready") != "True":
        return {}
    return {item["name"]: digest_of(world.volume / item["name"] / item["fingerprint"]) for item in status["adapters"]}


def _pod_annotations(world: World, pod: str) -> str:
    body = world.rest.get(f"/api/v1/namespaces/{world.namespace}/pods/{pod}")
    return str(body["metadata"].get("annotations"))
