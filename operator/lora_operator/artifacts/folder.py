"""Opening the files of an adapter folder: regular files that are really inside it, and nothing that blocks."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lora_operator.artifacts.hub_cache import blobs_of
from lora_operator.artifacts.refused import AdapterRefused, RefusedReason

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"

# What vLLM falls back to when there is no safetensors file. Unpickling runs whatever the file says.
PICKLE_FILES = ("adapter_model.bin", "adapter_model.pt")

_REASONS = {
    errno.EACCES: (RefusedReason.NOT_READABLE, "cannot be read (permission denied): let the operator's user read it"),
    errno.EPERM: (RefusedReason.NOT_READABLE, "cannot be read (not permitted): let the operator's user read it"),
    errno.ELOOP: (
        RefusedReason.LINK_ESCAPES,
        "is a symbolic link that goes round in circles: put the file itself there",
    ),
    errno.ENXIO: (RefusedReason.NOT_A_REGULAR_FILE, "is not a regular file: put the file itself there"),
}


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """One file of an adapter: its path relative to the folder, its size, and the sha256 of its content in hex.

    A store that does not tell the digest leaves `sha256` empty and gives `tag`, its own mark for this very content (an
    ETag, a version id): other content never has the same one.
    """

    path: str
    size_bytes: int
    sha256: str = ""
    tag: str = ""


def refused_by_os(name: str, error: OSError, missing: RefusedReason) -> AdapterRefused:
    """Turn what the operating system said about the file `name` into a refusal."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return AdapterRefused(missing, f"{name} is missing: put it into the adapter's folder")
    if error.errno in _REASONS:
        reason, text = _REASONS[error.errno]
        return AdapterRefused(reason, f"{name} {text}")
    what = error.strerror or str(error)
    return AdapterRefused(RefusedReason.READ_FAILED, f"{name} could not be read ({what}): check the disk or volume")


def _inside(folder: str, path: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


@contextmanager
def open_regular(folder: Path, name: str, missing: RefusedReason) -> Iterator[int]:
    """Open `folder/name` for reading and give its descriptor.

    Links are followed, as mounted ConfigMaps and Secrets are made of them, but only to places inside `folder`, or, in
    the cache of the Hugging Face hub, to the files of the same repository.
    Raises AdapterRefused, with reason `missing` where there is no such file.
    """
    try:
        real_folder = os.path.realpath(folder, strict=True)
    except OSError as error:
        raise refused_by_os(str(folder), error, RefusedReason.FOLDER_MISSING) from error
    try:
        real_path = os.path.realpath(os.path.join(real_folder, name), strict=True)  # noqa: PTH118
        blobs = blobs_of(real_folder)
        if not _inside(real_folder, real_path) and not (blobs and _inside(blobs, real_path)):
            raise _escapes(name)
        # NONBLOCK: opening a FIFO must not wait for a writer. NOFOLLOW: the last link was followed above.
        descriptor = os.open(real_path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError as error:
        raise refused_by_os(name, error, missing) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise AdapterRefused(
                RefusedReason.NOT_A_REGULAR_FILE,
                f"{name} is not a regular file: put the file itself there",
            )
        # A folder on the way may have been swapped for a link since it was resolved: what was opened is what counts.
        opened = _opened_path(descriptor)
        if opened is not None and not _inside(real_folder, opened) and not (blobs and _inside(blobs, opened)):
            raise _escapes(name)
        yield descriptor
    finally:
        os.close(descriptor)


def _opened_path(descriptor: int) -> str | None:
    try:
        opened = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - keeps " (deleted)"
    except OSError:  # no /proc here: the check before opening has to do
        return None
    return opened if opened.startswith("/") and not opened.endswith(" (deleted)") else None


def _escapes(name: str) -> AdapterRefused:
    return AdapterRefused(
        RefusedReason.LINK_ESCAPES,
        f"{name} is a symbolic link to a place outside of the adapter's folder: put the file itself there (cp -L)",
    )


def identity(descriptor: int) -> tuple[int, int, int]:
    """What changes when somebody writes to an open file: size, mtime and ctime in nanoseconds."""
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
