"""The errors of the adapter stores.

StoreError
└── CacheFull
"""

from __future__ import annotations

import errno

from lora_operator.process.failure import Failure

_BY_ERRNO = {
    errno.ENOSPC: ("DiskFull", "there is no space left: free some or enlarge the volume", True),
    errno.EDQUOT: ("DiskFull", "the quota is used up: free some space or raise it", True),
    errno.EFBIG: ("DiskFull", "the file is larger than the volume allows: raise the limit", False),
    errno.EROFS: ("ReadOnly", "the volume is mounted read-only: mount it writable for the operator", False),
    errno.EACCES: ("PermissionDenied", "permission denied: let the operator's user write there", False),
    errno.EPERM: ("PermissionDenied", "not permitted: let the operator's user write there", False),
}


class StoreError(Failure):
    """A version could not be stored or removed."""


class CacheFull(StoreError):
    """No room within the budget, as all the rest has to stay. All sums in bytes; what is in use is not counted again
    where it is pinned, and so on in the order of the fields."""

    def __init__(
        self, what: str, need_bytes: int, budget_bytes: int, in_use: int, pinned: int, recent: int, fetching: int
    ) -> None:
        super().__init__(
            "CacheFull",
            f"{what}: no room for {need_bytes} bytes in a cache of {budget_bytes}, of which {in_use} are in use, "
            f"{pinned} pinned, {recent} asked for a moment ago and {fetching} being fetched: raise the budget, unpin "
            "versions, or keep fewer adapters there",
            retryable=True,
        )
        self.need_bytes = need_bytes
        self.budget_bytes = budget_bytes
        self.in_use_bytes = in_use
        self.pinned_bytes = pinned
        self.recent_bytes = recent
        self.fetching_bytes = fetching


def store_error(what: str, error: OSError) -> StoreError:
    """Turn what the operating system said while doing `what` into a StoreError."""
    reason, text, retryable = _BY_ERRNO.get(
        error.errno or 0, ("IoError", f"{error.strerror or error}: check the volume", True)
    )
    return StoreError(reason, f"{what}: {text}", retryable=retryable)
