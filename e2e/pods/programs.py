"""Which program plays which container image on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass

SIMULATOR = "vllm-sim"
OPERATOR = "lora-operator"  # its agent, as a sidecar
VLLM_PYTHON = "LORA_OPERATOR_VLLM_PYTHON"


class UnknownImage(Exception):
    """No program is known for an image; the message names those that are."""


@dataclass(frozen=True, slots=True)
class Program:
    """`command` comes before the container's arguments, `--host ADDRESS` after them.

    `probe_path` is asked on the port of `--port` (or `port`) where the container has no readiness probe of its own;
    None: ready as soon as it runs.
    """

    command: tuple[str, ...]
    probe_path: str | None = "/health"
    port: int = 8000


def known_programs(environment: Mapping[str, str] | None = None) -> dict[str, Program]:
    """The simulator, our own agent, and the real vLLM where the environment says which Python has it installed."""
    environment = os.environ if environment is None else environment
    programs = {
        SIMULATOR: Program((sys.executable, "-m", "e2e.vllm_sim")),
        OPERATOR: Program((sys.executable, "-m", "lora_operator.cli.main"), "/healthz", 8090),
    }
    if python := environment.get(VLLM_PYTHON):
        vllm = Program((python, "-m", "vllm.entrypoints.openai.api_server"))
        programs |= {"vllm": vllm, "vllm-openai": vllm, "vllm-cpu": vllm}
    return programs


def image_name(image: str) -> str:
    """`registry/path/vllm-sim:tag@digest` -> `vllm-sim`."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0]


def program_of(image: str, programs: Mapping[str, Program]) -> Program:
    """The program for an image.

    Raises:
        UnknownImage: there is none.
    """
    name = image_name(image)
    if name not in programs:
        hint = f"; set {VLLM_PYTHON} to the Python that has vLLM" if name.startswith("vllm") else ""
        raise UnknownImage(f"no program plays image {image!r} here; known are {', '.join(sorted(programs))}{hint}")
    return programs[name]
