"""What is answered where a request cannot be done, as problem documents (RFC 9457) with a code for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:lora-operator:library:"

# code -> HTTP status, title
CODES: Mapping[str, tuple[int, str]] = {
    "INVALID_REQUEST": (400, "The request cannot be understood"),
    "INVALID_NAME": (400, "An adapter cannot have this name"),
    "INVALID_FILE_FORMAT": (400, "These are not the files of an adapter"),
    "ADAPTER_REFUSED": (400, "The adapter would not work"),
    "UNKNOWN_BASE_MODEL": (400, "No such base model"),
    "UNAUTHENTICATED": (401, "Who you are is not known"),
    "FORBIDDEN": (403, "This is for administrators"),
    "CROSS_SITE": (403, "Asked by another web site"),
    "NOT_FOUND": (404, "No such path"),
    "LORA_NOT_FOUND": (404, "No such adapter"),
    "REVISION_NOT_FOUND": (404, "No such revision"),
    "ENTRY_NOT_FOUND": (404, "No such file"),
    "METHOD_NOT_ALLOWED": (405, "Not with this method"),
    "UPLOAD_TOO_SLOW": (408, "The upload did not come in time"),
    "NAME_TAKEN": (409, "The name is taken"),
    "CONFLICT": (409, "This cannot be done now"),
    "QUARANTINED": (409, "A scan has not found it clean"),
    "QUOTA_EXCEEDED": (413, "The quota does not allow it"),
    "FILE_TOO_LARGE": (413, "The upload is too large"),
    "REQUEST_TOO_LARGE": (413, "The body is too large"),
    "TOO_MANY_UPLOADS": (429, "Too many uploads at a time"),
    "TOO_MANY_DOWNLOADS": (429, "Too many downloads at a time"),
    "INTERNAL": (500, "A defect"),
    "DATABASE_UNAVAILABLE": (503, "The database does not answer"),
    "STORE_UNAVAILABLE": (503, "The store does not answer"),
    "CLUSTER_UNAVAILABLE": (503, "The API server does not answer"),
    "IDENTITY_UNAVAILABLE": (503, "Who you are cannot be checked now"),
}


# for the OpenAPI document
DOCUMENTED: Mapping[int | str, dict[str, Any]] = {
    "default": {
        "description": "A problem (RFC 9457)",
        "content": {
            MEDIA_TYPE: {
                "schema": {
                    "type": "object",
                    "required": ["type", "title", "status", "code", "detail"],
                    "properties": {
                        "type": {"type": "string"},
                        "title": {"type": "string"},
                        "status": {"type": "integer"},
                        "code": {"type": "string", "enum": sorted(CODES)},
                        "detail": {"type": "string"},
                    },
                }
            }
        },
    }
}


class Problem(Exception):
    """`code` is one of CODES; `more` goes into the document as it is, `headers` beside it."""

    def __init__(self, code: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.headers: Mapping[str, str] = {}
        self.code = code
        self.status, self.title = CODES[code]
        self.more = more

    def document(self) -> dict[str, Any]:
        return {
            "type": TYPE_PREFIX + self.code.lower().replace("_", "-"),
            "title": self.title,
            "status": self.status,
            "code": self.code,
            "detail": str(self),
        } | self.more


def not_found(lora_id: str) -> Problem:
    """Also for what is another's."""
    return Problem("LORA_NOT_FOUND", f"there is no adapter {lora_id[:64]!r} among yours")
