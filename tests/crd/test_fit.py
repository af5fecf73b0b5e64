"""A status is kept small, and loses no more than it must."""

from __future__ import annotations

from datetime import UTC, datetime

from lora_operator.api.fit import fit
from lora_operator.api.status import (
    AdapterStatus,
    Condition,
    ConditionStatus,
    ConditionType,
    FailedAdapter,
    LoraAdapterStatus,
    Phase,
    PodAssignment,
    PodFailure,
)


def a_failure(name: str, pods: int = 16, message: str = "m" * 1024) -> FailedAdapter:
    failures = tuple(PodFailure(pod=f"pod-{i}", reason="RankTooHigh", message="w" * 512) for i in range(pods))
    return FailedAdapter(name=name, reason="Rank too high", code="RankTooHigh", message=message, pods=failures)


def size(status: LoraAdapterStatus) -> int:
    return len(status.model_dump_json(by_alias=True, exclude_none=True).encode())


def test_leaves_a_small_status_as_it_is() -> None:
    status = LoraAdapterStatus(phase=Phase.FAILED, failed_adapters=(a_failure("a"),))
    assert fit(status) is status


def test_gives_up_reasons_per_pod_before_anything_else() -> None:
    status = LoraAdapterStatus(failed_adapters=tuple(a_failure(f"a{i}") for i in range(100)))
    fitted = fit(status, 400_000)
    assert size(fitted) <= 400_000
    assert fitted.truncated
    assert len(fitted.failed_adapters) == 100
    assert all(len(one.pods) == 4 and one.message == "m" * 1024 for one in fitted.failed_adapters)


def test_keeps_phase_and_summary_however_small_the_limit() -> None:
    names = tuple(f"adapter-{i}" for i in range(1000))
    status = LoraAdapterStatus(
        phase=Phase.PARTIAL,
        summary="1000/1001",
        loaded_adapters=names,
        failed_adapters=(a_failure("a"),),
        pod_assignments=tuple(PodAssignment(pod=f"pod-{i}", adapters=names) for i in range(50)),
    )
    fitted = fit(status, 200)
    assert size(fitted) <= 200
    assert (fitted.phase, fitted.summary, fitted.truncated) == (Phase.PARTIAL, "1000/1001", True)


def test_cuts_what_is_too_long_instead_of_refusing_it() -> None:
    failure = a_failure("a", pods=40, message="m" * 5000)
    assert failure.message is not None
    assert (len(failure.pods), len(failure.message), failure.message[-1]) == (16, 1024, "…")


def a_status(*assignments: PodAssignment, adapters: int = 0) -> LoraAdapterStatus:
    ready = Condition(
        type=ConditionType.READY, status=ConditionStatus.TRUE, reason="Ready", message="all answer",
        last_transition_time=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    names = tuple(f"adapter-{number:04}" for number in range(adapters))
    return LoraAdapterStatus(
        conditions=(ready,),
        loaded_adapters=names,
        pod_assignments=assignments,
        adapters=tuple(AdapterStatus(name=name, fingerprint="a" * 16, bytes=1 << 20) for name in names),
        pods=len(assignments),
    )


def test_more_pods_than_people_read_are_counted_and_not_listed() -> None:
    pods = [PodAssignment(pod=f"pod-{number}", adapters=("sql",)) for number in range(100)]
    fitted = fit(a_status(*pods))
    assert (len(fitted.pod_assignments), fitted.pods, fitted.truncated) == (64, 100, True)
    assert fitted.conditions[0].message.startswith("all answer; lists of this status are cut")
    assert fit(fitted).conditions == fitted.conditions
    few = a_status(*pods[:64])
    assert fit(few) is few


def test_pods_are_left_out_before_any_adapter_is_and_those_that_stay_say_it_all() -> None:
    names = tuple(f"adapter-{number:04}" for number in range(300))
    fitted = fit(a_status(*(PodAssignment(pod=f"pod-{n}", adapters=names) for n in range(20)), adapters=300))
    assert len(fitted.adapters) == len(fitted.loaded_adapters) == 300
    assert 1 < len(fitted.pod_assignments) < 20
    assert all(one.adapters == names for one in fitted.pod_assignments)
    assert size(fitted) <= 64_000


def test_what_says_that_it_was_cut_says_so_in_words_as_well() -> None:
    status = a_status().model_copy(update={"truncated": True})
    assert "lists of this status are cut" in fit(status).conditions[0].message
