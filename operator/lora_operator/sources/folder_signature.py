"""A cheap sign of whether an adapter's folder changed: stat of the files that inspection looks at."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from lora_operator.artifacts import CONFIG_FILE, WEIGHTS_FILE

# All whose content or presence decides what inspection says.
_LOOKED_AT = (CONFIG_FILE, WEIGHTS_FILE, "adapter_model.bin", "adapter_model.pt", "new_embeddings.safetensors")


@dataclass(frozen=True, slots=True)
class FolderSignature:
    """Equal signatures mean: nothing changed. `checked_for` is what the content was compared with (the base model).

    `newest_write` (mtime) and `newest_change` (ctime, which cannot be set by hand) are in seconds since the epoch.
    """

    folder: str
    files: tuple[tuple[int, ...] | None, ...]
    checked_for: object
    newest_write: float
    newest_change: float


def signature_of(folder: Path, checked_for: object) -> FolderSignature:
    """Look at `folder` now. Never raises: what cannot be seen counts as absent, and inspection says why."""
    files: list[tuple[int, ...] | None] = []
    newest_write = newest_change = 0
    for name in _LOOKED_AT:
        try:
            status = os.stat(folder / name)  # noqa: PTH116 - called for every file of every adapter at each poll
        except (OSError, ValueError):
            files.append(None)
            continue
        files.append(
            (status.st_dev, status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        )
        newest_write = max(newest_write, status.st_mtime_ns)
        newest_change = max(newest_change, status.st_mtime_ns, status.st_ctime_ns)
    return FolderSignature(str(folder), tuple(files), checked_for, newest_write / 1e9, newest_change / 1e9)


def holds_adapter(folder: Path) -> bool:
    """Whether there is anything of an adapter in `folder`: its config, or weights without one."""
    return any(_is_there(folder / name) for name in (CONFIG_FILE, WEIGHTS_FILE))


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except PermissionError:
        return True  # it cannot be seen: inspection will say so
    except (OSError, ValueError):
        return False
    return True


def written_at(folder: Path) -> float:
    """When something was last added to or removed from `folder`; 0 if it is not there."""
    try:
        status = folder.stat()
    except (OSError, ValueError):
        return 0.0
    return status.st_mtime if stat.S_ISDIR(status.st_mode) else 0.0
