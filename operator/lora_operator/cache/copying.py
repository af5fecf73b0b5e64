"""Writing files so that what arrives is proven to be what was asked for, and is there whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from pathlib import Path

from lora_operator.artifacts import AdapterFile, AdapterRefused, RefusedReason
from lora_operator.artifacts.folder import open_regular
from lora_operator.cache.store_error import StoreError, store_error

CHUNK_BYTES = 4 << 20
# What copy_file_range answers where it cannot do this copy, and reading and writing can.
_NO_RANGE = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.ETXTBSY})
_MODE = 0o444


def copy_verified(file: AdapterFile, source_folder: Path, target_folder: Path) -> None:
    """Copy `file`, compare size and sha256 of the copy with what it should be, and make it read-only.

    It is not yet durable: see `make_durable`.

    Raises StoreError; reason SourceChanged where the source is not what was inspected any more.
    """
    if Path(file.path).name != file.path or file.path == "..":
        raise StoreError(
            "InvalidPath", f"{file.path[:200]!r} is not the name of a file in the adapter's folder", retryable=False
        )
    try:
        with open_regular(source_folder, file.path, RefusedReason.WEIGHTS_MISSING) as source:
            _copy(file, source, target_folder / file.path)
    except AdapterRefused as error:
        raise StoreError("SourceChanged", f"{source_folder}: {error.message}", retryable=True) from error
    except OSError as error:
        raise store_error(f"storing {file.path} in {target_folder.parent.parent}", error) from error


def _copy(file: AdapterFile, source: int, target_path: Path) -> None:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    target = os.open(target_path, flags, 0o600)
    try:
        size, digest = _copy_small(source, target) if file.size_bytes <= CHUNK_BYTES else _copy_large(source, target)
        if (size, digest) != (file.size_bytes, file.sha256):
            raise StoreError(
                "SourceChanged",
                f"{file.path} is not what was inspected any more ({size} bytes, sha256 {digest[:16]}…; expected "
                f"{file.size_bytes} bytes, {file.sha256[:16]}…): it is read again",
                retryable=True,
            )
        set_mode(target, _MODE)
    finally:
        os.close(target)


def _copy_small(source: int, target: int) -> tuple[int, str]:
    data = bytearray()
    # one byte more than a small file can have, so that one that has grown is noticed
    while len(data) <= CHUNK_BYTES and (part := os.read(source, CHUNK_BYTES + 1 - len(data))):
        data += part
    _write_all(target, data)
    return len(data), hashlib.sha256(data).hexdigest()


def _copy_large(source: int, target: int) -> tuple[int, str]:
    if _copy_in_kernel(source, target):
        # Shared extents or a copy inside the kernel: what arrived is read once, and that is what is compared.
        return _hash(target)
    os.lseek(source, 0, os.SEEK_SET)
    os.ftruncate(target, 0)
    os.lseek(target, 0, os.SEEK_SET)
    digest, size = hashlib.sha256(), 0
    while chunk := os.read(source, CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
        _write_all(target, chunk)
    return size, digest.hexdigest()


def _copy_in_kernel(source: int, target: int) -> bool:
    if not hasattr(os, "copy_file_range"):
        return False
    try:
        while os.copy_file_range(source, target, 1 << 30):
            pass
    except OSError as error:
        if error.errno in _NO_RANGE:
            return False
        raise
    # some file systems of some kernels copy nothing and say so with 0
    return os.fstat(target).st_size == os.fstat(source).st_size


def _hash(descriptor: int) -> tuple[int, str]:
    os.lseek(descriptor, 0, os.SEEK_SET)
    digest, size = hashlib.sha256(), 0
    while chunk := os.read(descriptor, CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()


def make_durable(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # folders cannot be waited for on some network and FUSE file systems: then there is nothing to wait for
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP) or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def write_whole(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write a small file so that its readers see the old content or the new, never a part. Raises OSError."""
    temporary = path.with_name(f".{secrets.token_hex(8)}")
    try:
        temporary.write_bytes(data)
        set_mode(temporary, 0o644)
        if durable:
            make_durable(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def set_mode(file: int | Path, mode: int) -> None:
    """Set a mode whatever the umask, where the volume has modes: mounted CIFS and object stores may have none."""
    try:
        os.chmod(file, mode)  # noqa: PTH101 - also takes a descriptor
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP):
            raise


def _write_all(descriptor: int, data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
