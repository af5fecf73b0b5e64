"""What is checked of each kind of file while it streams past, and once it is whole."""

from __future__ import annotations

import hashlib
import os
from typing import get_args

from lora_operator.artifacts import CONFIG_FILE, WEIGHTS_FILE, AdapterRefused
from lora_operator.artifacts.adapter_config import MAX_CONFIG_BYTES, parse_config
from lora_operator.artifacts.modules import pair_up
from lora_operator.artifacts.scan import WeightsScan
from lora_operator.fetch.errors import FetchError
from lora_operator.fetch.manifest import ArchiveKind, FetchFile, FetchManifest

_PICKLES = (".bin", ".pt", ".pkl", ".pth", ".pickle", ".ckpt")
_KINDS = get_args(ArchiveKind)


class BadContent(FetchError):
    """What arrived is not what it should be. Fetching it once more shows whether the way or the source is to blame."""


class FileProof:
    """Proves one file by its size, its sha256 and what it holds. Blocking; call `advance` as it grows, then `finish`.

    `descriptor` must be readable, and open as long as the proof is used.
    """

    def __init__(self, order_name: str, file: FetchFile, descriptor: int) -> None:
        self._what = f"{file.path} of {order_name}"
        self._file = file
        self._descriptor = descriptor
        self._scan = WeightsScan(descriptor, file.size_bytes) if file.path == WEIGHTS_FILE else None
        self._paired = False

    def advance(self, end: int) -> None:
        """Look at what is new below byte `end`. Raises FetchError with the reason of the refusal."""
        if self._scan is None:
            return  # a config is small: it is read when it is whole
        try:
            self._scan.advance(end)
            if not self._paired and self._scan.tensors is not None:
                self._paired = True
                pair_up(self._scan.tensors)
        except AdapterRefused as refused:
            error = BadContent(refused.reason.value, f"{self._what}: {refused.message}", retryable=refused.transient)
        else:
            return
        raise error

    def finish(self) -> str:
        """The sha256 in hex of the whole file. Raises FetchError (DigestMismatch, or the reason of a refusal)."""
        self.advance(self._file.size_bytes)
        if self._scan is not None:
            sha256 = self._scan.sha256()
        else:
            raw = os.pread(self._descriptor, MAX_CONFIG_BYTES + 1, 0)
            sha256 = hashlib.sha256(raw).hexdigest()
            self._check_config(raw)
        if self._file.sha256 and sha256 != self._file.sha256.lower():
            raise BadContent(
                "DigestMismatch",
                f"{self._what} arrived with sha256 {sha256[:16]}… where {self._file.sha256[:16]}… was expected: it was "
                "damaged on the way or changed at its source, it is read again",
                retryable=True,
            )
        return sha256

    def _check_config(self, raw: bytes) -> None:
        try:
            parse_config(raw)
        except AdapterRefused as refused:
            error = BadContent(refused.reason.value, f"{self._what}: {refused.message}", retryable=False)
        else:
            return
        if self._file.sha256 and hashlib.sha256(raw).hexdigest() != self._file.sha256.lower():
            return  # then that is what is wrong
        raise error


def check_order(order: FetchManifest, file_bytes_max: int) -> None:
    """Raises FetchError for an order that must not or cannot be carried out."""
    for file in order.files:
        _check_file(order, file, file_bytes_max)
    paths = [file.path for file in order.files]
    if not paths or len(set(paths)) != len(paths):
        raise _invalid(f"{order.name}: the order names {len(paths)} files, some twice or none: this is a defect")
    if order.archive is not None and order.archive.kind not in _KINDS:
        raise _invalid(f"{order.name}: an archive of kind {order.archive.kind[:20]!r}: use {', '.join(_KINDS)}")


def _check_file(order: FetchManifest, file: FetchFile, file_bytes_max: int) -> None:
    shown = f"{file.path[:200]!r} of {order.name}"
    if file.path.lower().endswith(_PICKLES):
        raise FetchError(
            "PickleRefused",
            f"{shown} is a pickle, which can run any code when it is read: save the adapter as safetensors "
            f"({WEIGHTS_FILE}; PEFT does so by default)",
            retryable=False,
        )
    if file.path not in (CONFIG_FILE, WEIGHTS_FILE):
        raise FetchError(
            "UnexpectedFile",
            f"{shown} is none of an adapter's files: only {CONFIG_FILE} and {WEIGHTS_FILE} are",
            retryable=False,
        )
    largest = MAX_CONFIG_BYTES if file.path == CONFIG_FILE else file_bytes_max
    if not 0 <= file.size_bytes <= largest:
        raise FetchError(
            "TooLarge",
            f"{shown} has {file.size_bytes} bytes, and at most {largest} are fetched: use a smaller adapter, or raise "
            "the limit in the settings",
            retryable=False,
        )
    if file.inline is None and file.link is None and order.archive is None:
        raise _invalid(f"{shown} comes neither inline, nor from a link, nor from an archive: this is a defect")


def _invalid(message: str) -> FetchError:
    return FetchError("OrderInvalid", message, retryable=False)
