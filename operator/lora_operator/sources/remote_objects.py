"""Object stores have keys, not folders: which adapters' folders the keys below a prefix make up. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from lora_operator.artifacts import CONFIG_FILE, WEIGHTS_FILE
from lora_operator.sources.base import SourceError
from lora_operator.sources.remote import RemoteFolder
from lora_operator.sources.remote_inspection import RemoteFile

MAX_OBJECTS = 100_000
NEAR_FOLDERS = 5


@dataclass(frozen=True, slots=True)
class ObjectPlace:
    """Where in a store to look.

    `address` names the bucket or container for people and ends with '/', `origin` names it beyond doubt. `prefix` is
    empty or ends with '/'. `root_name` is what an adapter right at `prefix` is called.
    """

    address: str
    prefix: str
    root_name: str
    origin: str

    def key(self, location: str, path: str) -> str:
        """The key of a file of the folder at `location`."""
        return location.removeprefix(self.address) + path

    def folder(self, name: str, key: str, files: Iterable[RemoteFile], *, below: bool = False) -> RemoteFolder:
        return RemoteFolder(name, self.address + key, tuple(files), f"{self.origin} {key}", below)


def folders_of(place: ObjectPlace, objects: Iterable[tuple[str, RemoteFile]]) -> list[RemoteFolder]:
    """One folder for each direct sub-folder, and one right at the prefix if there is anything of an adapter: then the
    others are below it.

    `objects` are (key, file) of all keys below the prefix. Those in deeper folders count for nothing.
    """
    root: list[RemoteFile] = []
    below: dict[str, list[RemoteFile]] = {}
    for key, file in objects:
        folder, _, path = key.removeprefix(place.prefix).rpartition("/")
        if path and not folder:
            root.append(file)
        elif path and "/" not in folder and not folder.startswith("."):
            below.setdefault(folder, []).append(file)
    first = any(file.path in (CONFIG_FILE, WEIGHTS_FILE) for file in root)
    found = [place.folder(place.root_name, place.prefix, root)] if first else []
    return found + [place.folder(name, f"{place.prefix}{name}/", files, below=first) for name, files in below.items()]


def what_is_near(place: ObjectPlace, folders_in: Callable[[str], Iterable[str]]) -> str:
    """For people who look for adapters where none is: the folders there, or else those nearest to it, "" for none.

    `folders_in` gives the names of those right below a prefix.
    """
    prefix, missing = place.prefix, ""
    while not (names := [name for name in folders_in(prefix) if name.isprintable()]) and prefix:
        above, _, missing = prefix[:-1].rpartition("/")
        prefix = f"{above}/" if above else ""
    if not names:
        return ""
    near = get_close_matches(missing, names, NEAR_FOLDERS) or names[:NEAR_FOLDERS]
    shown = ", ".join(f"{name[:100]!r}" for name in near)
    gone = f"no {missing[:100]!r}, but " if missing else ""
    return f"{place.address}{prefix} has {gone}the folders {shown}{', …' if len(near) < len(names) else ''}"


def bounded(
    objects: Iterable[tuple[str, RemoteFile]], shown: str, at_most: int = MAX_OBJECTS
) -> Iterator[tuple[str, RemoteFile]]:
    """The same objects; raises SourceError (TooManyFiles) after `at_most`."""
    for number, item in enumerate(objects):
        if number >= at_most:
            raise SourceError(
                "TooManyFiles",
                f"{shown} has more than {at_most} objects: name a deeper folder in repository, or keep adapters apart "
                "from other files",
                retryable=False,
            )
        yield item


def split_prefix(text: str, shown: str) -> tuple[str, str]:
    """What follows a bucket or container -> (prefix, its last part). Raises SourceError (BadRepository)."""
    parts = [part for part in text.split("/") if part]
    if any(part in (".", "..") for part in parts) or not text.isprintable() or len(text.encode()) > 900:
        raise bad_repository(f"{shown} has a prefix with '..', control characters, or more than 900 bytes: correct it")
    return "".join(f"{part}/" for part in parts), parts[-1] if parts else ""


def bad_repository(message: str) -> SourceError:
    return SourceError("BadRepository", message, retryable=False)
