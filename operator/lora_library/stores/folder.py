"""A folder on a volume that operator and library share: for a trial, or where there is no object store."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from lora_library.stores.base import Missing, StoredKey, StoreError

_NEW = ".new-"
BLOCK_BYTES = 1 << 20


class FolderStore:
    """See `Store`. `seen_at` is where the operator has the same folder."""

    def __init__(self, root: Path, seen_at: str = "") -> None:
        self._root = root
        self._seen_at = (seen_at or str(root)).rstrip("/")

    def put_file(self, key: str, file: Path) -> None:
        self._write(key, lambda new: shutil.copyfile(file, new))

    def put(self, key: str, content: bytes) -> None:
        self._write(key, lambda new: new.write_bytes(content))

    def copy(self, source: str, target: str) -> None:
        def link(new: Path) -> None:
            try:
                os.link(self._path(source), new)  # no second copy of what is never written again
            except FileNotFoundError:
                raise
            except OSError:
                shutil.copyfile(self._path(source), new)

        self._write(target, link)

    def get(self, key: str) -> bytes:
        with _explained(key):
            return self._path(key).read_bytes()

    def read(self, key: str, begin: int = 0, end: int | None = None) -> Iterator[bytes]:
        with _explained(key), self._path(key).open("rb") as file:
            file.seek(begin)
            left = None if end is None else end - begin
            while block := file.read(BLOCK_BYTES if left is None else min(BLOCK_BYTES, left)):
                left = None if left is None else left - len(block)
                yield block

    def keys(self, prefix: str) -> Iterator[StoredKey]:
        with _explained(prefix):
            for folder, _, names in os.walk(self._path(prefix)):
                for name in sorted(names):
                    path = Path(folder) / name
                    with contextlib.suppress(FileNotFoundError):
                        status = path.stat()
                        if not name.startswith(_NEW):
                            yield StoredKey(str(path.relative_to(self._root)), status.st_size, status.st_mtime)

    def delete(self, key: str) -> None:
        path = self._path(key)
        with _explained(key):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError):
                path.unlink()
            # folders that became empty, up to the root
            with contextlib.suppress(OSError):
                for folder in (path, *path.parents):
                    if folder == self._root:
                        break
                    if folder.is_dir():
                        folder.rmdir()

    def tidy(self, before: float) -> int:
        removed = 0
        with _explained(""):
            for path in self._root.rglob(f"{_NEW}*"):
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_mtime < before:
                        path.unlink()
                        removed += 1
        return removed

    def source(self, prefix: str) -> Mapping[str, str]:
        return {"type": "local", "repository": f"{self._seen_at}/{prefix}"}

    def check(self) -> None:
        with _explained(""):
            self._root.mkdir(parents=True, exist_ok=True)
            if not os.access(self._root, os.W_OK):
                raise StoreError(f"the folder {self._root} cannot be written to: let the library's user write there")

    def _path(self, key: str) -> Path:
        if key.startswith("/") or ".." in key.split("/"):
            raise StoreError(f"{key[:200]!r} is no key")
        return self._root / key

    def _write(self, key: str, write: Callable[[Path], object]) -> None:
        path = self._path(key)
        with _explained(key):
            for attempt in range(5):  # a folder that became empty may be removed by another at this moment
                path.parent.mkdir(parents=True, exist_ok=True)
                new = path.with_name(f"{_NEW}{secrets.token_hex(8)}")
                try:
                    write(new)
                    new.replace(path)
                    return
                except FileNotFoundError:
                    if attempt == 4 or path.parent.is_dir():
                        raise
                finally:
                    new.unlink(missing_ok=True)


@contextlib.contextmanager
def _explained(key: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise Missing(f"there is no {key[:200]!r}") from error
    except OSError as error:
        raise StoreError(f"{key[:200]!r}: {error.strerror or error}") from error
