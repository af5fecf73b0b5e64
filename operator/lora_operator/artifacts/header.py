"""The header of a safetensors file, read as strictly as the format's own library does.

Layout: 8 bytes little-endian length, that many bytes of JSON, then the tensors' data without holes or overlaps.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from typing import Any, NoReturn, TypeGuard

from lora_operator.artifacts.folder import WEIGHTS_FILE
from lora_operator.artifacts.refused import AdapterRefused, RefusedReason

MAX_HEADER_BYTES = 32 << 20
MAX_NAME = 1024
# What often lies in the place of the weights, by its first bytes in lower case (as many as a header's length has).
_MISTAKEN = (
    (b"version ", "is a Git LFS pointer, not the weights: run `git lfs pull` where it comes from, and copy it again"),
    (b"<!doctyp", "is a web page: the address that it was downloaded from wants a login, or is not the file's own"),
    (b"<html", "is a web page: the address that it was downloaded from wants a login, or is not the file's own"),
    (
        b"pk\x03\x04",
        "is a zip archive, as torch.save writes it: save it as safetensors, as PEFT does by default",
    ),
)
ITEM_BYTES = {"F16": 2, "BF16": 2, "F32": 4}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor; `begin` and `end` are byte offsets into the whole file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(descriptor: int, size_bytes: int) -> tuple[Tensor, ...]:
    """The tensors of an open safetensors file of `size_bytes`, in the order of their data. Raises AdapterRefused."""
    length = header_length(os.pread(descriptor, 8, 0), size_bytes)
    return parse_header(_read_exactly(descriptor, length, 8), size_bytes)


def header_length(first_bytes: bytes, size_bytes: int) -> int:
    """How many bytes of JSON follow the first eight, in a file of `size_bytes`. Raises AdapterRefused."""
    for begins, what in _MISTAKEN:
        if first_bytes[:8].lower().startswith(begins):
            _refuse(RefusedReason.HEADER_INVALID, what)
    if size_bytes == 0:
        _refuse(RefusedReason.FILE_TRUNCATED, "is empty: the copy or download of it was cut off, copy it again")
    if size_bytes < 8:
        _refuse(RefusedReason.FILE_TRUNCATED, f"has {size_bytes} bytes, too few for a header: it is half-written")
    length = int.from_bytes(first_bytes[:8], "little")
    if length > MAX_HEADER_BYTES:
        _refuse(
            RefusedReason.HEADER_INVALID,
            f"says that its header has {length} bytes (at most {MAX_HEADER_BYTES} are read): not a safetensors file",
        )
    if 8 + length > size_bytes:
        _refuse(
            RefusedReason.FILE_TRUNCATED,
            f"ends inside its header ({size_bytes} of {8 + length} bytes): it is half-written, copy it again",
        )
    return length


def parse_header(raw: bytes, size_bytes: int) -> tuple[Tensor, ...]:
    """The tensors that the JSON `raw` describes, in the order of their data. Raises AdapterRefused."""
    return _laid_out(_entries(raw), 8 + len(raw), size_bytes)


def _read_exactly(descriptor: int, length: int, offset: int) -> bytes:
    parts: list[bytes] = []
    while length:
        part = os.pread(descriptor, length, offset)
        if not part:
            raise AdapterRefused(
                RefusedReason.FILE_CHANGED, f"{WEIGHTS_FILE} shrank while it was read: wait until it is complete"
            )
        parts.append(part)
        length -= len(part)
        offset += len(part)
    return b"".join(parts)


def _entries(raw: bytes) -> dict[str, Any]:
    if not raw.startswith(b"{"):
        _refuse(RefusedReason.HEADER_INVALID, "has a header that is not a JSON object: not a safetensors file")
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique)
    except RecursionError:
        _refuse(RefusedReason.HEADER_INVALID, "has a header that is nested too deeply: not a safetensors file")
    except ValueError as error:
        text = str(error)[:120]
        _refuse(RefusedReason.HEADER_INVALID, f"has a header that is not valid JSON ({text}): save or copy it again")
    if not isinstance(header, dict):
        _refuse(RefusedReason.HEADER_INVALID, "has a header that is not a JSON object: not a safetensors file")
    metadata = header.pop("__metadata__", None)
    if metadata is not None and not (
        isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())
    ):
        _refuse(RefusedReason.HEADER_INVALID, "has __metadata__ that does not map text to text: save it again")
    if not header:
        _refuse(RefusedReason.HEADER_INVALID, "holds no tensor: save the adapter again")
    return header


def _laid_out(entries: dict[str, Any], data_begin: int, size_bytes: int) -> tuple[Tensor, ...]:
    tensors = sorted(
        (_tensor(name, entry, data_begin) for name, entry in entries.items()),
        key=lambda tensor: (tensor.begin, tensor.end),
    )
    expected = data_begin
    for tensor in tensors:
        if tensor.begin != expected:
            what = "overlaps the one before it" if tensor.begin < expected else "leaves a hole before it"
            _refuse(RefusedReason.HEADER_INVALID, f"has a tensor {_show(tensor.name)} whose data {what}: save it again")
        expected = tensor.end
    if expected > size_bytes:
        _refuse(
            RefusedReason.FILE_TRUNCATED,
            f"has {size_bytes} bytes where its header says {expected}: it is half-written, copy it again",
        )
    if expected < size_bytes:
        _refuse(
            RefusedReason.TRAILING_DATA,
            f"has {size_bytes} bytes where its header says {expected}: something was appended, copy it again",
        )
    return tuple(tensors)


def _tensor(name: str, entry: object, data_begin: int) -> Tensor:
    if not 0 < len(name) <= MAX_NAME or not name.isprintable():
        _refuse(RefusedReason.TENSOR_UNEXPECTED, f"has a tensor named {_show(name)}: not a name that PEFT writes")
    if not isinstance(entry, dict):
        _refuse(RefusedReason.HEADER_INVALID, f"does not describe tensor {_show(name)} properly: save it again")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        _refuse(
            RefusedReason.DTYPE_UNSUPPORTED,
            f"has tensor {_show(name)} of dtype {_show(dtype)}: save the adapter as float16, bfloat16 or float32",
        )
    if not _counts(shape) or not _counts(offsets) or len(offsets) != 2:
        _refuse(RefusedReason.HEADER_INVALID, f"has no proper shape or offsets for tensor {_show(name)}: save it again")
    if len(shape) > 8 or 0 in shape:
        _refuse(RefusedReason.SHAPE_MISMATCH, f"has tensor {_show(name)} of shape {shape[:8]}: it holds nothing")
    begin, end = offsets
    if end - begin != math.prod(shape) * ITEM_BYTES[dtype]:
        _refuse(
            RefusedReason.HEADER_INVALID,
            f"has tensor {_show(name)} of shape {shape} and dtype {dtype} in {end - begin} bytes, which do not agree: "
            "save it again",
        )
    return Tensor(name, dtype, tuple(shape), data_begin + begin, data_begin + end)


def _counts(value: Any) -> TypeGuard[list[int]]:
    # the bound keeps products and messages short: no file has 2**48 of anything
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 48 for item in value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 160 else text[:159] + "…"


def _refuse(reason: RefusedReason, text: str) -> NoReturn:
    raise AdapterRefused(reason, f"{WEIGHTS_FILE} {text}")
