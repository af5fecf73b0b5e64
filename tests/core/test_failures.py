"""Back-off per adapter version and pod, and the ledger of what is under way."""

from __future__ import annotations

from lora_operator.planning.inflight import Effect, Failures, Ledger, Stage

POD, LIFE = "ns/p0", "uid/c1"


def fail(failures: Failures, *, now: float = 0.0, slow: bool = False, life: str = LIFE, adapter: str = "a") -> float:
    return failures.add(adapter, "v1", POD, life, "LoadRefused", "no", now, slow).next_at - now


def test_delays_double_within_a_fifth_up_to_the_longest() -> None:
    failures = Failures(1.0, 300.0)
    delays = [fail(failures) for _ in range(40)]
    for number, delay in enumerate(delays):
        middle = min(2.0**number, 300.0)
        assert 0.8 * middle <= delay <= 1.2 * middle


def test_what_hardly_heals_by_itself_begins_ten_times_slower_and_is_bounded_all_the_same() -> None:
    failures = Failures(1.0, 300.0)
    assert 8.0 <= fail(failures, slow=True) <= 12.0
    assert max(fail(failures, slow=True) for _ in range(40)) <= 360.0


def test_another_life_of_the_container_begins_anew() -> None:
    failures = Failures(1.0, 300.0)
    for _ in range(5):
        fail(failures)
    assert failures.get("a", "v1", POD, "uid/c2") is None
    assert list(failures.of_pod(POD, "uid/c2")) == []
    assert fail(failures, life="uid/c2") <= 1.2


def test_a_success_clears_the_pair() -> None:
    failures = Failures(1.0, 300.0)
    fail(failures)
    failures.clear("a", "v1", POD)
    assert list(failures.of_pod(POD, LIFE)) == [] and fail(failures) <= 1.2


def test_what_nobody_wants_or_is_on_no_pod_is_forgotten() -> None:
    failures = Failures(1.0, 300.0)
    fail(failures, adapter="a")
    fail(failures, adapter="b")
    failures.prune({("a", "v1")}, {POD})
    assert [adapter for adapter, _, _ in failures.of_pod(POD, LIFE)] == ["a"]
    failures.prune({("a", "v2")}, {POD})
    assert list(failures.of_pod(POD, LIFE)) == []
    fail(failures)
    failures.prune({("a", "v1")}, {"ns/p1"})
    assert list(failures.of_pod(POD, LIFE)) == []


def test_every_failure_becomes_due() -> None:
    failures = Failures(1.0, 300.0)
    delay = fail(failures, now=100.0)
    due = failures.next_due(100.0)
    assert due == 100.0 + delay
    assert failures.next_due(due) is None


def test_others_make_room_again_after_the_longest_delay_for_what_says_nothing_of_the_version() -> None:
    failures = Failures(1.0, 300.0)
    failure = failures.add("a", "v1", POD, LIFE, "AgentUnreachable", "no", 100.0, slow=False, passes=True)
    assert failure.next_at <= 101.2 and failure.passes_at == 400.0
    assert failures.next_due(failure.next_at) == 400.0 and failures.next_due(400.0) is None
    assert failures.add("a", "v1", POD, LIFE, "Denied", "no", 100.0, slow=True, passes=True).passes_at == 3100.0
    assert failures.add("a", "v1", POD, LIFE, "LoadRefused", "no", 100.0, slow=False).passes_at is None


def effect(name: str = "sql", stage: Stage = Stage.FETCHING) -> Effect:
    return Effect(POD, name, stage, "ns/la/sql", "v1", 1, 1, LIFE)


def test_one_effect_at_a_time_for_a_name_on_a_pod() -> None:
    ledger = Ledger()
    first, second = effect(), effect(stage=Stage.WITHDRAWING)
    assert ledger.begin(first) and not ledger.begin(second)
    ledger.end(second)  # never begun: it must not end the first
    assert ledger.get(POD, "sql") is first and len(ledger) == 1
    ledger.end(first)
    assert ledger.begin(second) and not second.is_load and first.is_load
    assert list(ledger.on("ns/p1")) == []


def test_a_store_that_asks_for_a_pause_gets_it_for_an_hour_at_most() -> None:
    failures = Failures(1.0, 300.0)
    asked = failures.add("a", "v1", POD, LIFE, "RateLimited", "no", 0.0, False, 900.0)
    assert asked.next_at == 900.0
    assert failures.add("a", "v1", POD, LIFE, "RateLimited", "no", 0.0, False, 1e9).next_at == 3600.0


def test_the_loads_under_way_are_known_without_a_look_at_all_that_goes() -> None:
    ledger = Ledger()
    going = [Effect("p0", f"a{n}", Stage.WITHDRAWING, None, None, 0, 0, "life") for n in range(3)]
    coming = Effect("p0", "b", Stage.FETCHING, "ns/la/b", "v", 0, 0, "life")
    assert all(map(ledger.begin, [*going, coming]))
    assert list(ledger.loads()) == [coming]
    coming.stage = Stage.UNANSWERED
    assert list(ledger.loads()) == [coming], "it may still happen"
    ledger.end(coming)
    assert list(ledger.loads()) == [] and len(ledger) == 3


def test_what_goes_on_soon_ends_unless_it_failed_before_or_waits_for_routers() -> None:
    ledger = Ledger()
    load = Effect(POD, "a", Stage.FETCHING, "ns/la/a", "v1", 1, 8, LIFE)
    unload = Effect(POD, "b", Stage.WITHDRAWING, None, "v1", 0, 0, LIFE)
    assert not ledger.goes_on()
    ledger.begin(unload)
    assert not ledger.goes_on()
    unload.stage = Stage.UNLOADING
    assert ledger.goes_on()
    ledger.failed_unloads[LIFE, "b"] = 1
    assert not ledger.goes_on()
    ledger.begin(load)
    assert ledger.goes_on()
    load.stage = Stage.UNANSWERED
    assert not ledger.goes_on()


def test_the_loads_of_one_version_are_found_without_those_of_others() -> None:
    ledger = Ledger()
    effects = [
        Effect(pod, name, Stage.FETCHING, f"ns/la/{name}", "v1", 1, 8, LIFE) for name in "ab" for pod in ("p0", "p1")
    ]
    assert all(ledger.begin(effect) for effect in effects) and not ledger.begin(effects[0])
    assert list(ledger.loads_of("ns/la/a", "v1")) == effects[:2] and list(ledger.loads()) == effects
    for effect in effects[:2]:
        effect.stage = Stage.UNANSWERED
        ledger.end(effect)
    assert list(ledger.loads()) == effects[2:] and not list(ledger.loads_of("ns/la/a", "v1")) and len(ledger) == 2
