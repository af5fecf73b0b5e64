"""New weights at the source: rolled out pod by pod, answered throughout, and never from the old ones' cached prefix."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from e2e.behaviours.client import PROMPT, Client, Request, digest_of
from e2e.behaviours.worlds import Worlds
from e2e.world import World
from e2e.world.rest import Json
from e2e.world.world import assigned, condition, eventually, failed

WITHDRAW_SECONDS = 0.3
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
    _all_answered(client.requests)
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
    _all_answered(client.requests)
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
    _all_answered(client.requests)
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


def test_a_version_that_came_and_went_leaves_what_was_there(worlds: Worlds) -> None:
    world = worlds(2, release="0.28.0", operator=LETS_GO)
    first = _publish(world, seed=0)
    world.apply("sql", "sql", deployment={"replicas": 2})
    world.wait_ready("sql")
    with Client(world, "sql", "sql") as client:
        _wait_asked(client, since=time.monotonic())
        _publish(world, seed=1)
        world.wait("sql", _is_ready_with(world))
        _publish(world, seed=0)
        world.wait("sql", _is_ready_with(world))
        arrived = time.monotonic()
        _wait_asked(client, since=arrived)
        assert {request.answer.weights for request in client.since(arrived)} == {first}
    _all_answered(client.requests)


@pytest.mark.parametrize("release", ["0.28.0", "0.32.0"])
def test_a_restarted_operator_finds_everything_in_order_and_changes_nothing(worlds: Worlds, release: str) -> None:
    world = worlds(2, release=release, operator=LETS_GO)
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


def _all_answered(requests: list[Request]) -> None:
    """Whoever asks a pod soon after reading status is answered, and nobody ever from another version's cache."""
    assert not [request for request in requests if request.answer.stale]
    fresh = [request for request in requests if request.view_age_seconds < WITHDRAW_SECONDS]
    assert fresh
    assert not [request for request in fresh if request.answer.status != 200]
