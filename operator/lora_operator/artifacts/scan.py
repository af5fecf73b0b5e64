"""One pass over the weights: the sha256 of the file, and whether any value is NaN or infinite.

Such a value spoils the answers of *other* adapters in the same batch, and no engine release looks for it. A value is
NaN or infinite if and only if all bits of its exponent are set, which bytes operations find at memory speed: the high
byte first, which is all it takes for float16, then, hardly ever, the exponent's last bit in the byte below.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from lora_operator.artifacts.folder import WEIGHTS_FILE
from lora_operator.artifacts.header import ITEM_BYTES, Tensor, header_length, read_header
from lora_operator.artifacts.refused import AdapterRefused, RefusedReason

# Short enough to stay in the processor's cache, and to hold the interpreter for a millisecond only.
CHUNK_BYTES = 1 << 20


def _table(members: Iterable[int]) -> bytes:
    chosen = frozenset(members)
    return bytes(1 if byte in chosen else 0 for byte in range(256))


_FLOAT16_EXPONENT_FULL = bytes(byte for byte in range(256) if byte & 0x7C == 0x7C)
_HIGH_FULL = bytes((0x7F, 0xFF))  # bfloat16 and float32: sign, and the upper seven of eight exponent bits
_MARK_HIGH_FULL = _table(_HIGH_FULL)
_MARK_LOWEST_BIT = _table(range(0x80, 0x100))  # the eighth, in the byte below


class WeightsScan:
    """The one pass, over a safetensors file that may still be growing: tell it how far the file has come.

    `size_bytes` is the size that the whole file will have. Not to be used by two threads at a time.
    """

    def __init__(self, descriptor: int, size_bytes: int, tensors: Sequence[Tensor] | None = None) -> None:
        """`tensors` are in the order of their data, without holes; None to read them once the header is there."""
        self._descriptor = descriptor
        self._size_bytes = size_bytes
        self._digest = hashlib.sha256()
        self._done = 0
        self._tensors = tensors
        self._runs = () if tensors is None else _runs(tensors, size_bytes)

    @property
    def done_bytes(self) -> int:
        """How much was looked at: never more than a value's width less than the file has come."""
        return self._done

    @property
    def tensors(self) -> Sequence[Tensor] | None:
        """What the header describes; None as long as it is not there."""
        return self._tensors

    def advance(self, end: int) -> None:
        """Look at what is new below byte `end`. Raises AdapterRefused, naming the bad tensor."""
        if self._tensors is None and not self._has_header(end):
            return
        for run in self._runs:
            while self._done < min(run.end, end):
                chunk = _read(self._descriptor, self._done, _piece(run, self._done, end))
                if not chunk:
                    return
                if run.tensors and not is_finite(chunk, run.tensors[0].dtype):
                    raise _not_finite(chunk, self._done, run.tensors)
                self._digest.update(chunk)
                self._done += len(chunk)

    def sha256(self) -> str:
        """Of all that was looked at, in hex."""
        return self._digest.hexdigest()

    def _has_header(self, end: int) -> bool:
        if end < min(8, self._size_bytes):
            return False
        if end < 8 + header_length(os.pread(self._descriptor, 8, 0), self._size_bytes):
            return False
        self._tensors = read_header(self._descriptor, self._size_bytes)
        self._runs = _runs(self._tensors, self._size_bytes)
        return True


@dataclass(frozen=True, slots=True)
class _Run:
    """Bytes [begin, end) that are read alike: the header, or tensors of one dtype that follow each other."""

    begin: int
    end: int
    tensors: Sequence[Tensor]


def _runs(tensors: Sequence[Tensor], size_bytes: int) -> tuple[_Run, ...]:
    runs = [_Run(0, tensors[0].begin if tensors else size_bytes, ())]
    for _, group in groupby(tensors, key=lambda tensor: tensor.dtype):
        members = list(group)
        runs.append(_Run(members[0].begin, members[-1].end, members))
    return tuple(runs)


def _piece(run: _Run, begin: int, end: int) -> int:
    """How many bytes to read from `begin`: whole values, which all are 2 or 4 bytes wide."""
    if end >= run.end:
        return min(CHUNK_BYTES, run.end - begin)
    return min(CHUNK_BYTES, (end - begin) // 4 * 4)


def sha256_of_finite(descriptor: int, tensors: Sequence[Tensor], size_bytes: int) -> str:
    """Read the whole file once and return its sha256 in hex. Raises AdapterRefused, naming the bad tensor.

    `tensors` are in the order of their data, without holes, as `read_header` gives them.
    """
    scan = WeightsScan(descriptor, size_bytes, tensors)
    scan.advance(size_bytes)
    return scan.sha256()


def is_finite(data: bytes, dtype: str) -> bool:
    """Whether no little-endian value of `dtype` in `data` is NaN or infinite."""
    if dtype == "F16":
        high = data[1::2]
        return len(high.translate(None, _FLOAT16_EXPONENT_FULL)) == len(high)
    width = ITEM_BYTES[dtype]
    high = data[width - 1 :: width]
    if len(high.translate(None, _HIGH_FULL)) == len(high):
        return True
    low = data[width - 2 :: width]
    marked_high = int.from_bytes(high.translate(_MARK_HIGH_FULL), "little")
    marked_low = int.from_bytes(low.translate(_MARK_LOWEST_BIT), "little")
    return not marked_high & marked_low


def _read(descriptor: int, begin: int, count: int) -> bytes:
    chunk = os.pread(descriptor, count, begin)
    while len(chunk) < count:
        more = os.pread(descriptor, count - len(chunk), begin + len(chunk))
        if not more:
            raise AdapterRefused(
                RefusedReason.FILE_CHANGED, f"{WEIGHTS_FILE} shrank while it was read: wait until it is complete"
            )
        chunk += more
    return chunk


def _not_finite(chunk: bytes, offset: int, run: Sequence[Tensor]) -> AdapterRefused:
    for tensor in run:
        first, last = max(tensor.begin - offset, 0), min(tensor.end - offset, len(chunk))
        if first < last and not is_finite(chunk[first:last], tensor.dtype):
            return AdapterRefused(
                RefusedReason.NOT_FINITE,
                f"{WEIGHTS_FILE} has NaN or infinite values in tensor {tensor.name}: the training diverged, "
                "use an earlier checkpoint",
            )
    raise AssertionError("a chunk that is not finite has a tensor that is not finite")
