"""What identifies a version of an adapter: the content of the files that the engine reads, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from lora_operator.artifacts.folder import AdapterFile

FINGERPRINT_LENGTH = 16


def fingerprint(files: Iterable[AdapterFile], origin: str = "") -> str:
    """16 hex digits over the sorted (path, size, sha256): independent of order, times, owners and of the folder.

    Where a store tells no digest of a file, its tag stands for it, together with `origin`, which says whose tag that is
    (type, endpoint and place, whatever names the store beyond doubt): another store, which anybody can run, may give
    the same tag to other content, and must not get at the same version. Raises ValueError where it is missing.

    Of a folder only adapter_config.json and adapter_model.safetensors count. A tokenizer beside them does not: releases
    up to 0.11 would use it and later ones ignore it, so it is neither copied to pods nor part of a version, and every
    release answers with the base model's tokenizer.
    """
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda each: each.path):
        if not file.sha256 and not (origin and file.tag):
            raise ValueError(f"{file.path} has neither a sha256 nor a tag of a known origin")
        mark = file.sha256 or f"{origin}\0{file.tag}"
        digest.update(f"{file.path}\0{file.size_bytes}\0{mark}\n".encode())
    return digest.hexdigest()[:FINGERPRINT_LENGTH]
