"""What is done about an adapter whose load kills engines."""

from __future__ import annotations

from lora_operator.planning.inflight import Failures

POD, OTHER, LIFE = "ns/vllm-0", "ns/vllm-1", "uid/container"


def _on(failures: Failures, pod: str) -> list[tuple[str, str, int]]:
    return [(adapter, version, failure.attempts) for adapter, version, failure in failures.of_pod(pod, LIFE)]


def test_one_death_keeps_an_adapter_off_no_pod() -> None:
    failures = Failures(1.0, 300.0)
    failures.add_death("sql", "v1", "died", now=100.0)
    assert _on(failures, POD) == []
    assert failures.next_due(100.0) is None


def test_a_second_death_keeps_it_off_all_pods_for_a_growing_while() -> None:
    failures = Failures(1.0, 300.0)
    failures.add_death("sql", "v1", "died", now=100.0)
    second = failures.add_death("sql", "v1", "died again", now=100.0)
    third = failures.add_death("sql", "v1", "and again", now=100.0)
    assert _on(failures, POD) == _on(failures, OTHER) == [("sql", "v1", 3)]
    assert 108.0 <= second.next_at <= 112.0
    assert 116.0 <= third.next_at <= 124.0
    for _ in range(30):
        last = failures.add_death("sql", "v1", "and again", now=100.0)
    assert last.next_at <= 100.0 + 300.0 * 1.2


def test_another_version_is_not_suspected() -> None:
    failures = Failures(1.0, 300.0)
    for _ in range(3):
        failures.add_death("sql", "v1", "died", now=100.0)
    failures.prune({("sql", "v2")}, {POD})
    assert _on(failures, POD) == []


def test_a_load_that_succeeds_anywhere_clears_it() -> None:
    failures = Failures(1.0, 300.0)
    for _ in range(3):
        failures.add_death("sql", "v1", "died", now=100.0)
    failures.prune({("sql", "v1")}, {POD})
    assert _on(failures, POD) != []
    failures.clear("sql", "v1", OTHER)
    assert _on(failures, POD) == []
