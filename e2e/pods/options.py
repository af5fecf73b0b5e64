"""What a caller can choose about how pods are played."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from e2e.pods.programs import Program, known_programs

TEST_LABEL = "lora-operator.dev/test-pod"


@dataclass(frozen=True, slots=True)
class Options:
    """All times are in seconds.

    `in_process`: containers with the image vllm-sim run inside this process, which makes them cheap; they cannot be
    frozen then. `restart_seconds` is the delay before the first restart of a container; it doubles up to
    `restart_max_seconds`, and starts anew once a container ran for `restart_reset_seconds`.
    """

    nodes: int = 3
    subnet: str | None = None
    namespaces: tuple[str, ...] = ()
    in_process: bool = False
    starting_probe_seconds: float = 0.02
    probe_seconds: float = 0.5
    probe_timeout_seconds: float = 1.0
    restart_seconds: float = 0.1
    restart_max_seconds: float = 5.0
    restart_reset_seconds: float = 10.0
    lease_renew_seconds: float = 2.0
    refresh_seconds: float = 1.0
    programs: Mapping[str, Program] = field(default_factory=known_programs)
    engine_environment: Mapping[str, str] = field(default_factory=dict)
