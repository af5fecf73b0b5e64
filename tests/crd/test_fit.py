"""A status is kept under the API server's limit of size, and loses no more than it must."""

from __future__ import annotations

from lora_operator.api.fit import fit
from lora_operator.api.status import FailedAdapter, LoraAdapterStatus, Phase, PodAssignment, PodFailure


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
