"""Reading an adapter folder the way vLLM does, including what it accepts although it is wrong.

The rules follow vllm/lora/peft_helper.py, lora_model.py and layers/*_linear.py: a config needs `r`, `lora_alpha`
and `target_modules`; names of tensors must end in lora_A or lora_B of a module that the model has; tensors are
copied into a slot of (max rank × input) and (output × max rank), so what is larger fails and what is smaller passes
unnoticed.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .base_model import BaseModel
from .releases import Release

_MODULE = re.compile(r"^(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<half>[AB])\.weight$")
_EMBEDDING = re.compile(r"^(?:base_model\.model\.)?(?P<module>.+)\.lora_embedding_(?P<half>[AB])$")
_KEPT_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")  # the others change the base model's weights
_SCANNED_BYTES = 8 << 20  # looking for NaN in larger files would stop hundreds of engines in one process
_DTYPE_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
                "F8_E4M3": 1, "F8_E5M2": 1}  # fmt: skip


class LoadRefused(Exception):
    """vLLM would fail to load this; the message is the inner one, as the worker gives it."""


class AdapterNotFound(Exception):
    """No adapter_config.json there."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What was read. `digest` is the first 12 hex digits of the SHA-256 of the weights file."""

    digest: str
    has_nan: bool
    bytes: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What the server allows."""

    max_rank: int
    release: Release
    base: BaseModel | None


def read_adapter(path: str, limits: Limits) -> Weights:
    """Read and check the adapter at `path`. Raises AdapterNotFound or LoadRefused."""
    folder = Path(path).expanduser() if path.startswith("~") else Path(path)
    try:
        text = (folder / "adapter_config.json").read_text()
    except FileNotFoundError:
        raise AdapterNotFound(path) from None
    except (OSError, ValueError) as exc:  # a file, no permission, a NUL in the path, not UTF-8
        raise LoadRefused(str(exc)) from None
    try:
        config = json.loads(text)
    except ValueError as exc:
        raise LoadRefused(str(exc)) from None
    if not isinstance(config, dict):
        raise LoadRefused(f"'{type(config).__name__}' object does not support item assignment")
    _check_config(config, limits)
    weights_file = folder / "adapter_model.safetensors"
    if weights_file.is_file():
        raw = weights_file.read_bytes()
        tensors, data_start = _read_header(raw)
        _check_tensors(tensors, config, limits, path)
        return Weights(_digest(raw), _has_nan(raw, tensors, data_start), len(raw))
    for name in ("adapter_model.bin", "adapter_model.pt"):
        if (folder / name).is_file():  # a pickle is taken on trust: there is no torch here to read it with
            raw = (folder / name).read_bytes()
            return Weights(_digest(raw), False, len(raw))
    raise LoadRefused(f"{path} doesn't contain tensors")


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:12]


def _check_config(config: dict[str, Any], limits: Limits) -> None:
    missing = {"r", "lora_alpha", "target_modules"} - config.keys()
    if missing:
        raise LoadRefused(f"Missing required configuration fields: {missing}")
    rank = config["r"]
    if not isinstance(rank, int) or not isinstance(config["lora_alpha"], int | float):
        raise LoadRefused("unsupported operand type(s) for /")
    if rank <= 0:
        raise LoadRefused(f"LoRA rank `r` must be a positive integer, got {rank}.")
    problems = []
    if config.get("modules_to_save"):
        problems.append("vLLM only supports modules_to_save being None.")
    if config.get("use_dora"):
        problems.append("vLLM does not yet support DoRA.")
    patterns = config.get("rank_pattern") or {}
    if limits.release.refuses_changed_base:
        problems += _changed_base(config)
    highest = max([rank, *patterns.values()]) if limits.release.honours_patterns else rank
    if highest > limits.max_rank:
        problems.append(f"LoRA rank {highest} is greater than max_lora_rank {limits.max_rank}.")
    if config.get("bias", "none") != "none":
        problems.append("Adapter bias is not supported.")
    if problems:
        raise LoadRefused(" ".join(problems))


def _changed_base(config: dict[str, Any]) -> list[str]:
    problems = []
    if config.get("lora_bias"):
        problems.append("vLLM does not support LoRA bias (lora_bias).")
    init = config.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower() not in _KEPT_INITS:
        problems.append(f"vLLM does not support init_lora_weights={init!r}.")
    if config.get("alora_invocation_tokens"):
        problems.append("vLLM does not support Activated LoRA (aLoRA).")
    for field in ("layer_replication", "use_bdlora", "use_qalora"):
        if config.get(field):
            problems.append(f"vLLM does not support {field}.")
    return problems


Tensors = dict[str, tuple[str, tuple[int, ...], int, int]]  # name -> dtype, shape, start, end


def _read_header(raw: bytes) -> tuple[Tensors, int]:
    """The safetensors header, checked as the safetensors library does: no gaps, and as long as it says."""
    refused = LoadRefused("Error while deserializing header: invalid header")
    if len(raw) < 8:
        raise LoadRefused("Error while deserializing header: header too small")
    data_start = 8 + int.from_bytes(raw[:8], "little")
    if data_start > len(raw):
        raise LoadRefused("Error while deserializing header: invalid header length")
    try:
        header = json.loads(raw[8:data_start])
    except ValueError:
        raise refused from None
    if not isinstance(header, dict):
        raise refused
    tensors: Tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            start, end = entry["data_offsets"]
            tensors[name] = (str(entry["dtype"]), tuple(int(n) for n in entry["shape"]), int(start), int(end))
        except (TypeError, KeyError, ValueError):
            raise refused from None
    expected = 0
    for dtype, shape, start, end in sorted(tensors.values(), key=lambda t: (t[2], t[3])):
        size = math.prod(shape) * _DTYPE_BYTES.get(dtype, 1)
        if start != expected or end - start != size:
            raise LoadRefused("Error while deserializing header: invalid tensor data")
        expected = end
    if data_start + expected != len(raw):
        raise LoadRefused("Error while deserializing header: incomplete metadata, file not fully covered")
    return tensors, data_start


def _check_tensors(tensors: Tensors, config: dict[str, Any], limits: Limits, path: str) -> None:
    halves: dict[str, set[str]] = {}
    unexpected = []
    if not tensors and limits.release.refuses_no_tensors:
        raise LoadRefused("")
    for name in tensors:
        if limits.release.ignores_bias_tensors and name.endswith(".bias"):
            continue
        match = _MODULE.match(name) or _EMBEDDING.match(name)
        if match is None:
            raise LoadRefused(f"{name} is unsupported LoRA weight")
        module = match["module"]
        if limits.base is not None and module.rpartition(".")[2] not in limits.base.modules:
            unexpected.append(module)
        halves.setdefault(module, set()).add(match["half"])
    if unexpected and limits.base is not None:
        raise LoadRefused(
            f"While loading {path}, expected target modules in {set(limits.base.modules)} but received {unexpected}. "
            "Please verify that the loaded LoRA module is correct"
        )
    for module, found in halves.items():
        if found != {"A", "B"}:
            raise LoadRefused(f"unsupported operand type(s) for *=: 'NoneType' and 'float' ({module})")
    for name, (_, shape, _, _) in tensors.items():
        _check_shape(name, shape, limits)


def _check_shape(name: str, shape: tuple[int, ...], limits: Limits) -> None:
    match = _MODULE.match(name)
    if match is None or len(shape) != 2:
        return
    rows, columns = shape
    is_a = match["half"] == "A"
    layer = limits.base.layer(match["module"]) if limits.base is not None else None
    if limits.base is not None and layer is None:
        return  # a layer that the model does not have: vLLM keeps it and never looks at it
    rank = rows if is_a else columns
    slot = (limits.max_rank, layer.inputs if layer else columns) if is_a else (
        layer.outputs if layer else rows, limits.max_rank)  # fmt: skip
    if rank > limits.max_rank or rows > slot[0] or columns > slot[1]:
        raise LoadRefused(
            f"The size of tensor a ({slot[1]}) must match the size of tensor b ({columns}) at non-singleton dimension 1"
        )


def _has_nan(raw: bytes, tensors: Tensors, data_start: int) -> bool:
    if len(raw) > _SCANNED_BYTES:
        return False
    for dtype, _, start, end in tensors.values():
        data = raw[data_start + start : data_start + end]
        if dtype == "F32":
            exponent, code = 0x7F800000, "I"
        elif dtype in ("BF16", "F16"):
            exponent, code = (0x7F80 if dtype == "BF16" else 0x7C00), "H"
        else:
            continue
        if any(bits & exponent == exponent for bits in array(code, data)):
            return True
    return False
