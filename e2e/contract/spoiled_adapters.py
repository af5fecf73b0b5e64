"""Adapters with something wrong, made from a good one without torch: bytes cut, shapes and configs changed.

Each is one way in which a half-written, mixed-up or hostile folder reaches an engine.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"

Tensor = tuple[list[int], bytes]  # shape and float32 data
Tensors = dict[str, Tensor]


def read_tensors(file: Path) -> Tensors:
    """The float32 tensors of a safetensors file."""
    raw = file.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header: dict[str, Any] = json.loads(raw[8:start])
    return {
        name: (entry["shape"], raw[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def write_tensors(file: Path, tensors: Tensors) -> None:
    """Write float32 tensors as safetensors."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (shape, data) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, data in tensors.values()))


def _rows(tensor: Tensor, count: int) -> Tensor:
    """Keep the first rows, or repeat them until there are `count`."""
    (rows, columns), data = tensor
    line = columns * 4
    picked = [data[(i % rows) * line : (i % rows + 1) * line] for i in range(count)]
    return [count, columns], b"".join(picked)


def _columns(tensor: Tensor, count: int) -> Tensor:
    (rows, columns), data = tensor
    lines = [data[i * columns * 4 : (i + 1) * columns * 4] for i in range(rows)]
    wide = [(line * (count // columns + 1))[: count * 4] for line in lines]
    return [rows, count], b"".join(wide)


def _edit(change: Callable[[str, Tensor], Tensor | None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        tensors = read_tensors(folder / WEIGHTS)
        changed = {name: change(name, tensor) for name, tensor in tensors.items()}
        write_tensors(folder / WEIGHTS, {name: tensor for name, tensor in changed.items() if tensor is not None})

    return apply


def _rename(old: str, new: str, *, keep: bool = False) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        tensors = read_tensors(folder / WEIGHTS)
        renamed = {name.replace(old, new): tensor for name, tensor in tensors.items()}
        write_tensors(folder / WEIGHTS, {**tensors, **renamed} if keep else renamed)

    return apply


def _configure(**values: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_text())
        config.update(values)
        text = json.dumps({k: v for k, v in config.items() if v is not ...}, indent=2, sort_keys=True)
        (folder / CONFIG).write_text(text + "\n")

    return apply


def _cut(folder: Path) -> None:
    raw = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(raw[: len(raw) // 2])


def _poison(word: bytes) -> Callable[[Path], None]:
    def poisoned(name: str, tensor: Tensor) -> Tensor:
        shape, data = tensor
        return (shape, word + data[4:]) if "lora_B" in name else tensor

    return _edit(poisoned)


def _only(half: str, change: Callable[[Tensor], Tensor | None]) -> Callable[[str, Tensor], Tensor | None]:
    return lambda name, tensor: change(tensor) if half in name else tensor


SPOILED: dict[str, Callable[[Path], None]] = {
    "too-small-in": _edit(_only("lora_A", lambda t: _columns(t, 32))),
    "too-small-out": _edit(_only("lora_B", lambda t: _rows(t, 16))),
    "too-large-in": _edit(_only("lora_A", lambda t: _columns(t, 96))),
    "too-large-out": _edit(_only("lora_B", lambda t: _rows(t, 160))),
    "too-large-down": _edit(_only("lora_B", lambda t: _rows(t, 96))),  # made from lora-down-only
    "surplus-layers": _rename("layers.1.", "layers.7.", keep=True),
    "other-layers-only": _rename("layers.", "layers.1"),
    "unknown-module": _rename("q_proj", "qq_proj"),
    "without-prefix": _rename("base_model.model.", ""),
    "doubled-prefix": _rename("base_model.model.model.", "base_model.model.base_model.model.model."),
    "rank-in-config-higher": _configure(r=4),
    "rank-in-config-lower": _configure(r=1),
    "halves-disagree": _edit(_only("lora_B", lambda t: _columns(t, 8))),
    "without-b": _edit(_only("lora_B", lambda t: None)),
    "without-tensors": _edit(lambda name, tensor: None),
    "r-missing": _configure(r=...),
    "r-zero": _configure(r=0),
    "r-as-text": _configure(r="2"),
    "alpha-missing": _configure(lora_alpha=...),
    "targets-missing": _configure(target_modules=...),
    "targets-disagree": _configure(target_modules=["o_proj"]),
    "other-base": _configure(base_model_name_or_path="somebody/another-model"),
    "says-ia3": _configure(peft_type="IA3"),
    "says-dora-without-magnitude": _configure(use_dora=True),
    "says-nothing-of-rslora": _configure(use_rslora=None),
    "unknown-setting": _configure(use_something_of_next_year=True),
    "nan": _poison(struct.pack("<f", float("nan"))),
    "inf": _poison(struct.pack("<f", float("inf"))),
    "truncated": _cut,
    "garbage": lambda folder: _write(folder / WEIGHTS, b"not safetensors at all, but long enough for a length"),
    "empty-file": lambda folder: _write(folder / WEIGHTS, b""),
    "no-weights": lambda folder: (folder / WEIGHTS).unlink(),
    "no-config": lambda folder: (folder / CONFIG).unlink(),
    "config-not-json": lambda folder: _write(folder / CONFIG, b'{"r": 4, "lora_alpha"'),
    "config-a-list": lambda folder: _write(folder / CONFIG, b"[]"),
}
_MADE_FROM = {"too-large-down": "lora-down-only"}


def _write(file: Path, data: bytes) -> None:
    file.write_bytes(data)


def write_spoiled(folder: Path) -> None:
    """Write every spoiled adapter beside the good ones in `folder`."""
    for name, spoil in SPOILED.items():
        shutil.copytree(folder / _MADE_FROM.get(name, "lora"), folder / name)
        spoil(folder / name)
