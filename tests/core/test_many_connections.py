"""A process with little room for connections makes itself more, as far as it may."""

from __future__ import annotations

import resource

import pytest

from lora_operator.cli import run


@pytest.mark.parametrize(
    ("limits", "after"),
    [
        ((1024, 524_288), (65_536, 524_288)),
        ((1024, 4096), (4096, 4096)),
        ((1024, resource.RLIM_INFINITY), (65_536, resource.RLIM_INFINITY)),
        ((1_048_576, 1_048_576), None),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None),
    ],
)
def test_the_soft_limit_of_files_goes_up_to_what_is_needed_and_never_down(
    limits: tuple[int, int], after: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: made.append(new))
    run._allow_many_connections()
    assert made == ([] if after is None else [after])
