"""What identifies a version of an adapter: the content of the files that the engine reads, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from lora_operator.artifacts.folder import AdapterFile

FINGERPRINT_LENGTH = 16


def fingerprint(files: Iterable[AdapterFile], origin: str = "") -> str:
    """16 hex digits over the sorted (path, size, sha256): independent of order, times, owners and of the folder.

    `origin` names the store beyond doubt (type, endpoint and place) where digests and tags are what that store says of
    files that nobody has read yet. Anybody can run a store and have it say anything: with its origin in it, what one
    store says never leads to a version that came from another, which its teller might not be allowed to read. Without
    an origin the digests are of bytes that were read. Raises ValueError for a tag without an origin.

    Of a folder only adapter_config.json and adapter_model.safetensors count. A tokenizer beside them does not: releases
    up to 0.11 would use it and later ones ignore it, so it is neither copied to pods nor part of a version, and every
    release answers with the base model's tokenizer.
    """
    digest = hashlib.sha256(f"{origin}\0\n".encode() if origin else b"")
    for file in sorted(files, key=lambda each: each.path):
        if not file.sha256 and not (origin and file.tag):
            raise ValueError(f"{file.path} has neither a sha256 nor a tag of a known origin")
        digest.update(f"{file.path}\0{file.size_bytes}\0{file.sha256 or file.tag}\n".encode())
    return digest.hexdigest()[:FINGERPRINT_LENGTH]
