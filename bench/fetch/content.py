"""Adapters of any size on disk, good ones, and the orders to fetch them."""

from __future__ import annotations

import hashlib
import json
import random
import struct
from pathlib import Path

from lora_operator.artifacts import WEIGHTS_FILE, AdapterFile, fingerprint
from lora_operator.fetch.manifest import FetchFile, FetchManifest, Link

COLUMNS = 4096
BLOCK_BYTES = 1 << 20


def write_weights(path: Path, size_bytes: int) -> str:
    """A safetensors file of about that size in float16, of pairs of rank 64; returns its sha256 in hex."""
    pair = 2 * 64 * COLUMNS * 2
    header: dict[str, object] = {}
    place = 0
    for layer in range(max(1, size_bytes // pair)):
        for half, shape in (("A", [64, COLUMNS]), ("B", [COLUMNS, 64])):
            name = f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{half}.weight"
            header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [place, place + pair // 2]}
            place += pair // 2
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    numbers = random.Random(1)
    block = struct.pack(f"<{BLOCK_BYTES // 2}e", *(numbers.uniform(-1, 1) for _ in range(BLOCK_BYTES // 2)))
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for part in (struct.pack("<Q", len(text)), text, *[block] * (place // BLOCK_BYTES)):
            file.write(part)
            digest.update(part)
    return digest.hexdigest()


def an_order(name: str, url: str, size_bytes: int, sha256: str) -> FetchManifest:
    """The weights alone: a config travels with the order."""
    file = FetchFile(WEIGHTS_FILE, size_bytes, sha256, link=Link(url))
    return FetchManifest(name, fingerprint([AdapterFile(WEIGHTS_FILE, size_bytes, sha256)]), (file,))
