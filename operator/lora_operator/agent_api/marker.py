"""Remembers on the agent's disk that its pod was opened to traffic: `<root>/.ready/<uid of the pod>`.

An engine outlives its agent. An agent that starts anew has to know that its pod serves, also while no operator is
there to say so. The file is named after the pod's uid: a disk of the node outlives pods, and is shared by the agents of
several of them; the next pod of a StatefulSet has the same name and not the same uid.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path

from lora_operator.cache.copying import write_whole
from lora_operator.cache.scratch import parent_of_ours

FOLDER = ".ready"
VERY_OLD_SECONDS = 7 * 24 * 3600.0  # of pods that are gone; those that are there renew theirs


class Marker:
    """Blocks on the disk: for a thread. Without a `uid` nothing is remembered."""

    def __init__(self, root: Path, uid: str) -> None:
        self._root = root
        self._path = root / FOLDER / uid if uid else None

    def read(self) -> str | None:
        """The engine's container for which the pod was opened, empty if nobody named one; None: it was not opened.

        Raises OSError where nobody can tell.
        """
        if self._path is None:
            return None
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            self._root.stat()  # a disk that is not there says nothing of what was on it
            return None
        try:
            return str(json.loads(text)["container"])
        except (ValueError, KeyError, TypeError):
            return ""

    def write(self, container: str | None) -> None:
        """As `read` gives it. Raises OSError."""
        if self._path is None:
            return
        if container is None:
            self._path.unlink(missing_ok=True)
            return
        parent_of_ours(self._root, FOLDER)
        write_whole(self._path, json.dumps({"container": container}).encode())

    def renew(self) -> None:
        """Say that this pod is still there, and remove what pods left that are gone. Never raises."""
        if self._path is None:
            return
        with suppress(OSError):
            os.utime(self._path)
        with suppress(OSError):
            for path in self._path.parent.iterdir():
                with suppress(OSError):
                    if time.time() - path.stat().st_mtime > VERY_OLD_SECONDS:
                        path.unlink()
