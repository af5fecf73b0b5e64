"""What identifies a version of an adapter: the content of the files that the engine reads, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from lora_operator.artifacts.folder import AdapterFile

FINGERPRINT_LENGTH = 16


def fingerprint(files: Iterable[AdapterFile]) -> str:
    """16 hex digits over the sorted (path, size, sha256, or the store's tag where that is all it tells): independent of
    order, times, owners and of the folder.

    Of a folder only adapter_config.json and adapter_model.safetensors count. A tokenizer beside them does not: releases
    up to 0.11 would use it and later ones ignore it, so it is neither copied to pods nor part of a version, and every
    release answers with the base model's tokenizer.
    """
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda each: each.path):
        digest.update(f"{file.path}\0{file.size_bytes}\0{file.sha256 or f'tag {file.tag}'}\n".encode())
    return digest.hexdigest()[:FINGERPRINT_LENGTH]
