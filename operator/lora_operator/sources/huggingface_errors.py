"""What the error answers of a Hugging Face hub mean, told by status and X-Error-Code and never by prose. Pure."""

from __future__ import annotations

from lora_operator.sources.base import SourceError
from lora_operator.sources.http_client import Answer, refusal

_DISABLED = "access to this resource is disabled."


class HubRefused(Exception):
    """The hub answered with an error status. Knows nothing that must not be shown."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"status {answer.status}")
        self.answer = answer


def hub_refusal(repository: str, revision: str | None, answer: Answer, *, has_token: bool) -> SourceError:
    """The error for an answer about `repository` (org/repo, or org)."""
    what = f"huggingface repository {repository[:200]!r}"
    code = answer.headers.get("x-error-code", "")
    if code == "GatedRepo":
        return SourceError(
            "GatedRepository",
            f"{what} is gated: accept its conditions on its page, and name a Secret whose key 'token' is of an account "
            "that was given access",
            retryable=False,
        )
    if code == "RevisionNotFound":
        return SourceError(
            "RevisionNotFound",
            f"{what} has no revision {(revision or 'main')[:200]!r}: give an existing branch, tag or commit",
            retryable=False,
        )
    if answer.headers.get("x-error-message", "").lower() == _DISABLED:
        return SourceError(
            "RepositoryDisabled", f"{what} was disabled by the hub: ask its owner, or use another one", retryable=False
        )
    if answer.status == 401 and has_token:
        return SourceError(
            "AuthenticationFailed",
            f"{what}: the hub refuses the token (status 401): put a valid one into the Secret's key 'token'",
            retryable=False,
        )
    if answer.status == 401:
        # to those without a token the hub does not say which of the two it is
        return SourceError(
            "AuthenticationRequired",
            f"{what} does not exist or is private: correct the name, or name a Secret with the key 'token' in "
            "credentialsSecretRef",
            retryable=False,
        )
    if code == "RepoNotFound" or answer.status in (404, 410):
        return SourceError(
            "RepositoryNotFound",
            f"{what} does not exist{', or the token may not see it' if has_token else ''}: correct the name"
            f"{', or let the token read it' if has_token else ''}",
            retryable=False,
        )
    if answer.status == 403:
        return SourceError(
            "AccessDenied",
            f"{what}: access is denied (status 403): "
            + ("give the token the right to read it" if has_token else "name a Secret with a token that may read it"),
            retryable=False,
        )
    return refusal(answer.url, answer.status, answer.headers, has_secret=has_token)
