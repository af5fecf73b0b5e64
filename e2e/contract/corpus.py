"""The corpus of strangers' adapters, written for a model that the real engine can serve: what is refused, and what is
accepted, is to be so for a reason.

The corpus is in small numbers and for many architectures; what is for a plain Llama is written here with the sizes of
the suite's model.
"""

from __future__ import annotations

import json
import math
import random
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .spoiled_adapters import CONFIG, WEIGHTS, Tensors, write_tensors

HERE = Path(__file__).parent
CORPUS = HERE.parents[1] / "tests" / "artifacts" / "strangers" / "trainings.yaml"
LAYERS = 24  # more than any case names
PREFIX = "base_model.model."
# module: (inputs, outputs) in the corpus, and in the suite's model
_SIZES = {
    "q_proj": ((16, 16), (64, 128)),
    "k_proj": ((16, 8), (64, 64)),
    "v_proj": ((16, 8), (64, 64)),
    "gate_proj": ((16, 24), (64, 128)),
    "up_proj": ((16, 24), (64, 128)),
    "down_proj": ((24, 16), (128, 64)),
}
_OF_LLAMA = re.compile(r"model\.layers\.(?:\{\}|\d+)\.(?:self_attn|mlp)\." + f"({'|'.join(_SIZES)})")
_NOT_HERE = frozenset({"fused_experts", "classification_head"})  # features of other architectures

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Adapter:
    """One case. `refused`: the reason that inspection gives, or None."""

    what: str
    folder: str
    shapes: Mapping[str, Shape]
    config: Mapping[str, Any]
    refused: str | None
    features: frozenset[str]


def shapes_of(case: Mapping[str, Any]) -> dict[str, Shape]:
    """Tensor -> shape, as the corpus says it."""
    prefix, ending = case.get("prefix", PREFIX), case.get("ending", ".weight")
    shapes: dict[str, Shape] = {prefix + name: tuple(shape) for name, shape in case.get("whole", {}).items()}
    for template, (inputs, outputs, *rank) in case["modules"].items():
        for layer in case.get("layers", range(3)) if "{}" in template else (0,):
            path, r = prefix + template.format(layer), rank[0] if rank else 4
            shapes[f"{path}.lora_A{ending}"] = (r, inputs)
            shapes[f"{path}.lora_B{ending}"] = (outputs, r)
    return shapes


def adapters() -> tuple[list[Adapter], list[str]]:
    """Those that the suite's model can show, and the names of the others."""
    shown, others = [], []
    for number, case in enumerate(yaml.safe_load(CORPUS.read_text())):
        if not all(_OF_LLAMA.fullmatch(path) for path in case["modules"]) or _NOT_HERE & set(case.get("features", ())):
            others.append(case["what"])
            continue
        resized = case | {"modules": {path: _resized(path, sizes) for path, sizes in case["modules"].items()}}
        config = json.loads((HERE / "adapters" / "lora" / CONFIG).read_text()) | {"r": 4, "lora_alpha": 8}
        features = frozenset(case.get("features", ()))
        config |= case["config"]
        shown.append(Adapter(case["what"], f"{number:03}", shapes_of(resized), config, case.get("refused"), features))
    return shown, others


def write(adapter: Adapter, folder: Path, *, prefixed: bool = False) -> None:
    """Write it with weights that are its own. `prefixed`: with PEFT's prefix, without which PEFT finds nothing."""
    folder.mkdir(parents=True)
    numbers = random.Random(adapter.folder)
    tensors: Tensors = {}
    for name, shape in adapter.shapes.items():
        values = [numbers.gauss(0, 0.3) for _ in range(math.prod(shape))]
        named = name if name.startswith(PREFIX) or not prefixed else PREFIX + name
        tensors[named] = ([*shape], struct.pack(f"<{len(values)}f", *values))
    write_tensors(folder / WEIGHTS, tensors)
    (folder / CONFIG).write_text(json.dumps(adapter.config, indent=2) + "\n")


def _resized(path: str, sizes: list[int]) -> list[int]:
    match = _OF_LLAMA.fullmatch(path)
    small, large = _SIZES[match[1]] if match is not None else ((0, 0), (0, 0))
    inputs, outputs, *rank = sizes
    pairs = zip((inputs, outputs), small, large, strict=True)
    return [*(new if size == old else 4 * size for size, old, new in pairs), *rank]
