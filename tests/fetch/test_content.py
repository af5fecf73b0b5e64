"""What is in the files: proven while it streams past, refused with the reason that an inspection gives."""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_operator.artifacts import CONFIG_FILE, WEIGHTS_FILE, AdapterRefused
from lora_operator.artifacts.scan import WeightsScan
from lora_operator.fetch.manifest import FetchFile
from tests.artifacts.written_adapter import lora_tensors, safetensors_bytes, with_header
from tests.fetch.ordered import CHUNK, WEIGHTS_URL, Case, an_order, sha256

NAN = struct.pack("<f", float("nan"))


def with_nan(weights: bytes, place: int) -> bytes:
    return weights[:place] + NAN + weights[place + 4 :]


def serve(case: Case, weights: bytes) -> None:
    case.files = {**case.files, WEIGHTS_FILE: weights}
    case.store.files = {WEIGHTS_URL: weights}


BROKEN = {
    "no safetensors": (lambda good: os.urandom(len(good)), "HeaderInvalid"),
    "a web page": (lambda good: b"<html>Sign in</html>".ljust(len(good)), "HeaderInvalid"),
    "a header of 2 GB": (lambda good: struct.pack("<Q", 2 << 30) + good[8:], "HeaderInvalid"),
    "a header that is not JSON": (lambda good: with_header(b"{no", good[-64:]), "HeaderInvalid"),
    "a header beyond the end": (lambda good: struct.pack("<Q", len(good)) + good[8:], "FileTruncated"),
    "half": (lambda good: good[: len(good) // 2], "FileTruncated"),
    "four bytes": (lambda good: good[:4], "FileTruncated"),
    "nothing": (lambda good: b"", "FileTruncated"),
    "something appended": (lambda good: good + b"x", "TrailingData"),
    "a dtype that no engine takes": (lambda good: safetensors_bytes(lora_tensors(), dtype="F64"), "DtypeUnsupported"),
    "a tensor of DoRA": (
        lambda good: safetensors_bytes({"base_model.model.model.layers.0.q.lora_magnitude_vector": (4,)}),
        "DoraUnsupported",
    ),
    "NaN at the end": (lambda good: good[:-4] + NAN, "NotFinite"),
}


@pytest.mark.parametrize(("spoil", "reason"), BROKEN.values(), ids=BROKEN)
async def test_broken_weights_are_refused_with_their_reason(case: Case, spoil, reason: str) -> None:  # type: ignore[no-untyped-def]
    serve(case, spoil(case.files[WEIGHTS_FILE]))
    error = await case.failure()
    assert (error.reason, error.retryable) == (reason, False)
    assert "adapter_model.safetensors of alpaca" in error.message


async def test_garbage_is_refused_before_the_rest_of_it_is_fetched(case: Case) -> None:
    serve(case, b"x" * 64_000_000)  # more than a connection holds on its way
    await case.failure()
    assert case.store.sent_bytes < 32_000_000


async def test_a_config_by_link_is_checked_too(case: Case) -> None:
    config = b'{"peft_type": "IA3"}'
    case.store.files["/config"] = config
    file = FetchFile(
        CONFIG_FILE, len(config), sha256(config), link=replace(case.link, url=case.store.url("/config"), tag="")
    )
    error = await case.failure(replace(case.order, files=(file,)))
    assert error.reason == "PeftTypeUnsupported"


async def test_an_inline_file_has_to_be_what_the_order_says(case: Case) -> None:
    config = case.files[CONFIG_FILE]
    file = FetchFile(CONFIG_FILE, len(config), "0" * 64, inline=config)
    assert (await case.failure(replace(case.order, files=(file,)))).reason == "DigestMismatch"
    file = FetchFile(CONFIG_FILE, len(config) + 1, sha256(config), inline=config)
    assert (await case.failure(replace(case.order, files=(file,)))).reason == "SizeMismatch"


ORDERS = {
    "pickle": (FetchFile("adapter_model.bin", 5, inline=b"\x80\x04K\x01."), "PickleRefused"),
    "pickle in capitals": (FetchFile("weights.PT", 5, inline=b"\x80\x04K\x01."), "PickleRefused"),
    "traversal": (FetchFile("../adapter_config.json", 2, inline=b"{}"), "UnexpectedFile"),
    "absolute": (FetchFile("/etc/cron.d/x", 2, inline=b"{}"), "UnexpectedFile"),
    "code": (FetchFile("modeling.py", 2, inline=b"{}"), "UnexpectedFile"),
    "two terabytes": (FetchFile(WEIGHTS_FILE, 2 << 40), "TooLarge"),
    "a negative size": (FetchFile(WEIGHTS_FILE, -1), "TooLarge"),
    "a huge config": (FetchFile(CONFIG_FILE, 5 << 20), "TooLarge"),
    "from nowhere": (FetchFile(WEIGHTS_FILE, 100), "OrderInvalid"),
}


@pytest.mark.parametrize(("file", "reason"), ORDERS.values(), ids=ORDERS)
async def test_orders_for_what_is_no_adapter_are_refused(case: Case, file: FetchFile, reason: str) -> None:
    error = await case.failure(replace(case.order, files=(file,)))
    assert (error.reason, error.retryable) == (reason, False)
    assert list(case.into.iterdir()) == []


async def test_an_order_for_nothing_is_refused(case: Case) -> None:
    assert (await case.failure(replace(case.order, files=()))).reason == "OrderInvalid"
    file = case.order.files[0]
    assert (await case.failure(replace(case.order, files=(file, file)))).reason == "OrderInvalid"


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.integers(1, 9000), max_size=40),
    dtype=st.sampled_from(["F16", "BF16", "F32"]),
    bad=st.none() | st.integers(0, 10**6),
)
def test_a_scan_in_any_steps_finds_what_a_scan_at_once_finds(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], dtype: str, bad: int | None
) -> None:
    weights = bytearray(safetensors_bytes(lora_tensors(rank=5), dtype=dtype))
    data_begin = 8 + int.from_bytes(weights[:8], "little")
    width = 4 if dtype == "F32" else 2
    if bad is not None:
        place = data_begin + bad % ((len(weights) - data_begin) // width) * width
        weights[place : place + width] = b"\xff" * width
    path = tmp_path_factory.mktemp("scan") / "weights"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        scan, end, refused = WeightsScan(descriptor, len(weights)), 0, False
        for step in [*steps, len(weights)]:
            os.write(descriptor, weights[end : end + step])
            end = min(len(weights), end + step)
            try:
                scan.advance(end)
            except AdapterRefused as error:
                refused = True
                assert "NaN" in error.message
                break
            assert scan.done_bytes <= end
        assert refused == (bad is not None)
        if not refused:
            assert scan.sha256() == hashlib.sha256(weights).hexdigest()
    finally:
        os.close(descriptor)
        Path(path).unlink()


async def test_a_large_file_of_mixed_dtypes_is_whole_at_the_end(case: Case) -> None:
    await case.fetch(an_order(case.files, case.link))
    assert len(case.files[WEIGHTS_FILE]) > 7 * CHUNK
    assert case.whole
