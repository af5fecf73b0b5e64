"""The one error of the adapter stores."""

from __future__ import annotations

import errno

_BY_ERRNO = {
    errno.ENOSPC: ("DiskFull", "there is no space left: free some or enlarge the volume", True),
    errno.EDQUOT: ("DiskFull", "the quota is used up: free some space or raise it", True),
    errno.EFBIG: ("DiskFull", "the file is larger than the volume allows: raise the limit", False),
    errno.EROFS: ("ReadOnly", "the volume is mounted read-only: mount it writable for the operator", False),
    errno.EACCES: ("PermissionDenied", "permission denied: let the operator's user write there", False),
    errno.EPERM: ("PermissionDenied", "not permitted: let the operator's user write there", False),
}


class StoreError(Exception):
    """A version could not be stored or removed. `retryable` is false where somebody has to change something first."""

    def __init__(self, reason: str, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retryable = retryable


def store_error(what: str, error: OSError) -> StoreError:
    """Turn what the operating system said while doing `what` into a StoreError."""
    reason, text, retryable = _BY_ERRNO.get(
        error.errno or 0, ("IoError", f"{error.strerror or error}: check the volume", True)
    )
    return StoreError(reason, f"{what}: {text}", retryable=retryable)
