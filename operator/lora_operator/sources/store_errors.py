"""What object stores have in common where they refuse, fail, or cannot be asked: one table of reasons. Pure.

Nothing that an SDK says is quoted: it may hold a URL, a header or a signature.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from lora_operator.artifacts import AdapterRefused, RefusedReason
from lora_operator.sources.base import SourceError
from lora_operator.sources.remote_connections import forbidden_address, wait_seconds
from lora_operator.sources.remote_threads import timed_out

Meaning = tuple[str, str, bool]  # the reason, what it means and what to do, whether it passes by itself
CLOCK_SKEW: Meaning = ("ClockSkew", "the operator's clock and the store's differ too much: set both by NTP", True)
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_AGAIN = "it is asked again later"
_UNASKED: Mapping[str, Meaning] = {
    "tls": ("TlsFailed", "no trusted TLS connection: give the store a certificate that the operator trusts", False),
    "name": ("HostNotFound", "the host is not known to DNS: correct account, endpoint or region, or repair DNS", True),
    "connection": ("ConnectionFailed", "takes no connection, or broke it off ({}): check network, host and port", True),
    "no keys": ("CredentialsMissing", "no keys: name a Secret in credentialsSecretRef", False),
    "no role": ("CredentialsUnavailable", "the operator's own role or identity gives nothing now: check it", True),
    "request": ("BadRepository", "no request can be made of repository, region and endpoint: correct them", False),
    "answer": ("UnexpectedAnswer", "what answers does not speak like such a store ({}): correct the endpoint", False),
}


def unasked(error: Exception, shown: str, kind: str) -> SourceError:
    """No answer came, or none that makes sense: `kind` is "time" or a row of the table."""
    forbidden = forbidden_address(error)
    if forbidden is not None:
        return SourceError(forbidden.reason, f"{shown}: {forbidden.message}", retryable=forbidden.retryable)
    if kind == "time":
        return timed_out(shown)
    return meant(_UNASKED[kind], shown, type(error).__name__)


def meant(meaning: Meaning, shown: str, word: str = "") -> SourceError:
    reason, text, retryable = meaning
    return SourceError(reason, f"{shown}: {text.format(word)}", retryable=retryable)


def gone(shown: str) -> AdapterRefused:
    """What is said of an object that is not the one that was listed."""
    text = f"{shown} went or changed since it was listed: it is looked at again"
    return AdapterRefused(RefusedReason.FILE_CHANGED, text)


def answered(
    shown: str,
    code: str,
    status: int,
    retry_after: object,
    codes: Mapping[str, Meaning],
    slow: Collection[str],
    to_check: str,
    rights: str = "",
) -> SourceError:
    """`codes` are the words that this kind of store has for what is wrong, `slow` those for asking too often, and
    `rights` says what to allow where it refuses by its status alone."""
    if code in codes:
        return meant(codes[code], shown)
    if code in slow or status == 429:
        return SourceError(
            "Throttled",
            f"{shown}: the store asks for fewer requests: {_AGAIN}",
            retryable=True,
            retry_after_seconds=wait_seconds(retry_after),
        )
    what = f"{code if _WORD.fullmatch(code) else 'no code'}, status {status}"
    if status >= 500 and status != 501:
        return SourceError("SourceUnavailable", f"{shown}: the store fails ({what}): {_AGAIN}", retryable=True)
    if rights and status in (401, 403):
        return SourceError("AccessDenied", f"{shown}: access is denied ({what}): {rights}", retryable=False)
    text = f"{shown}: the store refuses the request ({what}): {to_check}"
    return SourceError("UnexpectedAnswer", text, retryable=False)
