"""Who has which version loaded, for caches that several agents share: `<root>/.in-use/<holder>.json`, one per pod.

An engine dies when it reads again what is gone, and may outlive its agent: so a lease ends when its holder, or somebody
who knows that the holder's pod is gone, says so, or when nobody renewed it for a very long time; never with a process.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from lora_operator.cache.copying import write_whole
from lora_operator.cache.entry import Key
from lora_operator.cache.scratch import parent_of_ours
from lora_operator.cache.store_error import StoreError

FOLDER = ".in-use"
VERY_OLD_SECONDS = 7 * 24 * 3600.0
_HOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)?", re.ASCII)
_ENDING = ".json"


class Leases:
    """The leases below one root. Callers hold the root's lock while they change or follow them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / FOLDER

    def hold(self, holder: str, versions: Collection[Key]) -> None:
        """`holder` ("namespace/pod", or a name) has exactly these versions in use, as of now.

        Raises StoreError for a holder that cannot be one; OSError.
        """
        path = self._path(holder)
        if self.of(holder) == frozenset(versions):
            with suppress(FileNotFoundError):  # a renewal needs no disk to wait for
                os.utime(path)
                return
        parent_of_ours(self._root, FOLDER)
        write_whole(path, json.dumps({"holder": holder, "versions": sorted(versions)}).encode(), durable=True)

    def end(self, holder: str) -> None:
        """`holder` is known to have nothing in use any more. Raises StoreError, OSError."""
        with suppress(FileNotFoundError):
            self._path(holder).unlink()

    def holders(self) -> list[str]:
        """Raises OSError."""
        return sorted(path.name.removesuffix(_ENDING).replace("@", "/") for path in self._files())

    def of(self, holder: str) -> frozenset[Key] | None:
        """What `holder` was said to have in use last; None if nothing was, or if it cannot be read. Raises StoreError,
        OSError.
        """
        try:
            return _versions(self._path(holder).read_bytes())
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def held(self, now: float) -> frozenset[Key]:
        """What is in use by anybody. Leases that are very old are removed.

        Raises StoreError (LeaseUnreadable): then nobody knows what is in use, and nothing may be removed; OSError.
        """
        held: set[Key] = set()
        for path in self._files():
            try:
                if now - path.stat().st_mtime > VERY_OLD_SECONDS:
                    path.unlink()
                    continue
                held.update(_versions(path.read_bytes()))
            except FileNotFoundError:
                continue
            except (ValueError, KeyError, TypeError) as error:
                raise StoreError(
                    "LeaseUnreadable",
                    f"{path} does not say what its pod has in use, so that nothing can be removed: delete that file "
                    "once the pod is gone, or restart the pod's agent",
                    retryable=True,
                ) from error
        return frozenset(held)

    def _files(self) -> Iterator[Path]:
        try:
            with os.scandir(self._folder) as entries:
                names = sorted(entry.name for entry in entries)
        except FileNotFoundError:
            return
        for name in names:
            if name.endswith(_ENDING) and not name.startswith("."):
                yield self._folder / name

    def _path(self, holder: str) -> Path:
        if not _HOLDER.fullmatch(holder) or len(holder) > 240:
            raise StoreError(
                "InvalidHolder",
                f"{holder[:60]!r} cannot hold versions: give a pod's namespace/name",
                retryable=False,
            )
        return self._folder / (holder.replace("/", "@") + _ENDING)


def _versions(data: bytes) -> frozenset[Key]:
    """Raises ValueError, KeyError, TypeError."""
    return frozenset((str(name), str(fingerprint)) for name, fingerprint in json.loads(data)["versions"])
