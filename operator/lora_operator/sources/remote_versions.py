"""`revision` at stores that keep versions of each object for itself: which two files belong together. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from lora_operator.artifacts import CONFIG_FILE, WEIGHTS_FILE
from lora_operator.sources.base import SourceError
from lora_operator.sources.remote_inspection import RemoteFile


def pinned(files: Iterable[RemoteFile], revision: str, shown: str) -> tuple[RemoteFile, ...]:
    """Config and weights that `revision` means: the one that has it as its version, and with it the version of the
    other that was written closest to it.

    `files` are all versions of the two. Raises SourceError (RevisionNotFound).
    """
    by_path: dict[str, list[RemoteFile]] = {CONFIG_FILE: [], WEIGHTS_FILE: []}
    for file in files:
        if file.path in by_path:
            by_path[file.path].append(file)
    for path, other in ((WEIGHTS_FILE, CONFIG_FILE), (CONFIG_FILE, WEIGHTS_FILE)):
        for file in by_path[path]:
            if file.version == revision and by_path[other]:
                written = file.modified_at or 0.0
                partner = min(by_path[other], key=lambda each: (abs((each.modified_at or 0.0) - written), each.version))
                return (file, partner)
    raise SourceError(
        "RevisionNotFound",
        f"{shown} has no {CONFIG_FILE} and {WEIGHTS_FILE} of version {revision[:100]!r}: name the folder of a single "
        "adapter in repository and the version id of one of its two files in revision, or leave revision out",
        retryable=False,
    )
