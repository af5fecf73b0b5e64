"""Which engine the demo's pods run: the simulator, or real vLLM on the CPU."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from e2e.demo.errors import CannotStart
from e2e.pods.programs import VLLM_PYTHON
from e2e.world.adapters import MODEL_CONFIG
from e2e.world.world import BASE_MODEL

SLOTS = 4
MAX_RANK = 16
MEMORY = "256Ki"
VLLM_RELEASE = "0.32.0"
VLLM_PODS = 2
VLLM_BYTES = 2_500_000_000  # of memory, each
_LORA = ("--max-loras", "2", "--max-cpu-loras", str(SLOTS), "--max-lora-rank", str(MAX_RANK))


@dataclass(frozen=True, slots=True)
class Engine:
    """`runner_environment` tells the pod runner where the programs are.

    `patience_seconds` is how long anything may take, `look_seconds` the time between two looks, which an engine
    that starts on the same cores pays for.
    """

    image: str
    title: str
    pods: int
    model: Path
    arguments: tuple[str, ...]
    patience_seconds: float
    look_seconds: float
    variables: Mapping[str, str] = field(default_factory=dict)
    runner_environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def all_arguments(self) -> tuple[str, ...]:
        return ("--model", str(self.model), "--served-model-name", BASE_MODEL, *_LORA, *self.arguments)


def engine(kind: str, directory: Path) -> Engine:
    """`sim` or `vllm`; real vLLM is installed first where it is not there yet, which takes minutes.

    Raises:
        CannotStart: vLLM cannot be installed, or there is too little memory for it.
    """
    return _vllm() if kind == "vllm" else _simulator(directory)


def _simulator(directory: Path) -> Engine:
    model = directory / "model"
    model.mkdir(exist_ok=True)
    (model / "config.json").write_text(json.dumps(MODEL_CONFIG))
    return Engine(
        image="vllm-sim",
        title=f"simulated vLLM {VLLM_RELEASE}",
        pods=3,
        model=model,
        arguments=("--release", VLLM_RELEASE),
        patience_seconds=30.0,
        look_seconds=0.03,
    )


def _vllm() -> Engine:
    # imported here: who takes the simulator needs nothing of it
    from e2e.vllm_cpu.install import InstallFailed, install
    from e2e.vllm_cpu.places import model_folder
    from e2e.vllm_cpu.server import OFFLINE

    available = psutil.virtual_memory().available
    if available < VLLM_PODS * VLLM_BYTES:
        raise CannotStart(
            f"{VLLM_PODS} pods of real vLLM need {VLLM_PODS * VLLM_BYTES / 1e9:.0f} GB of memory, and "
            f"{available / 1e9:.1f} GB are available; take the simulator: --engine sim"
        )
    try:
        interpreter = install(VLLM_RELEASE)
    except (InstallFailed, OSError) as error:
        raise CannotStart(f"vLLM {VLLM_RELEASE} cannot be installed: {error}") from error
    return Engine(
        image="vllm",
        title=f"real vLLM {VLLM_RELEASE} on the CPU",
        pods=VLLM_PODS,
        model=model_folder(),
        arguments=("--enforce-eager", "--max-model-len", "512", "--dtype", "float32"),
        patience_seconds=600.0,  # 30 s on an idle machine; its imports alone take minutes on a busy one
        look_seconds=0.2,
        variables=OFFLINE,
        runner_environment={VLLM_PYTHON: str(interpreter)},
    )
