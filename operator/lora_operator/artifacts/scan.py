"""One pass over the weights: the sha256 of the file, and whether any value is NaN or infinite.

Such a value spoils the answers of *other* adapters in the same batch, and no engine release looks for it. A value is
NaN or infinite if and only if all bits of its exponent are set, which bytes operations find at memory speed: the high
byte first, which is all it takes for float16, then, hardly ever, the exponent's last bit in the byte below.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from lora_operator.artifacts.folder import WEIGHTS_FILE
from lora_operator.artifacts.header import ITEM_BYTES, Tensor
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


def sha256_of_finite(descriptor: int, tensors: Sequence[Tensor], size_bytes: int) -> str:
    """Read the whole file once and return its sha256 in hex. Raises AdapterRefused, naming the bad tensor.

    `tensors` are in the order of their data, without holes, as `read_header` gives them.
    """
    digest = hashlib.sha256()
    begin = tensors[0].begin if tensors else size_bytes
    for chunk in _chunks(descriptor, 0, begin):
        digest.update(chunk)
    for dtype, group in groupby(tensors, key=lambda tensor: tensor.dtype):
        run = list(group)
        offset = run[0].begin
        for chunk in _chunks(descriptor, offset, run[-1].end):
            digest.update(chunk)
            if not is_finite(chunk, dtype):
                raise _not_finite(chunk, offset, run)
            offset += len(chunk)
    return digest.hexdigest()


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


def _chunks(descriptor: int, begin: int, end: int) -> Iterator[bytes]:
    """The bytes of [begin, end) in chunks that begin at multiples of 4 bytes from `begin`."""
    while begin < end:
        want = min(CHUNK_BYTES, end - begin)
        chunk = os.pread(descriptor, want, begin)
        while len(chunk) < want:
            more = os.pread(descriptor, want - len(chunk), begin + len(chunk))
            if not more:
                raise AdapterRefused(
                    RefusedReason.FILE_CHANGED, f"{WEIGHTS_FILE} shrank while it was read: wait until it is complete"
                )
            chunk += more
        yield chunk
        begin += want


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
