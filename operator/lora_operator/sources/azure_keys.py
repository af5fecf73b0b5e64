"""What a Secret holds for Azure Blob Storage. Pure."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import parse_qs

from lora_operator.sources.base import Credentials, SourceError
from lora_operator.sources.remote_request import secret_value

KEY, SAS, CONNECTION = "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_CONNECTION_STRING"


@dataclass(frozen=True, slots=True)
class AzureKeys:
    """An account key or a SAS token; never part of a repr, a log line or an error.

    `account` and `endpoint` are what a connection string says of itself. `expires_at` is the token's, in Unix time.
    """

    key: str | None = field(default=None, repr=False)
    sas: str | None = field(default=None, repr=False)
    account: str | None = None
    endpoint: str | None = field(default=None, repr=False)
    expires_at: float | None = None


def keys_of(credentials: Credentials | None) -> AzureKeys | None:
    """The first that the Secret holds of connection string, key and SAS; None without a Secret. Raises SourceError."""
    if credentials is None:
        return None
    connection = secret_value(credentials, CONNECTION, spaces=True)
    if connection:
        return _from_connection_string(connection)
    key, sas = secret_value(credentials, KEY), secret_value(credentials, SAS)
    if key:
        return AzureKeys(_checked_key(key, KEY))
    if sas:
        return _from_sas(sas, SAS)
    raise SourceError(
        "CredentialsIncomplete",
        f"the Secret has none of {KEY}, {SAS} and {CONNECTION}: add one, or name no Secret for a public container or "
        "the operator's own identity",
        retryable=False,
    )


def _from_connection_string(text: str) -> AzureKeys:
    fields = {
        name.strip().lower(): value.strip()
        for name, found, value in (part.partition("=") for part in text.split(";"))
        if found
    }
    account, endpoint = fields.get("accountname"), fields.get("blobendpoint")
    if fields.get("accountkey"):
        return AzureKeys(_checked_key(fields["accountkey"], CONNECTION), None, account, endpoint)
    if fields.get("sharedaccesssignature"):
        keys = _from_sas(fields["sharedaccesssignature"], CONNECTION)
        return AzureKeys(None, keys.sas, account, endpoint, keys.expires_at)
    raise _malformed(CONNECTION, "has neither AccountKey nor SharedAccessSignature: copy it anew from the portal")


def _checked_key(key: str, name: str) -> str:
    try:
        base64.b64decode(key, validate=True)
    except binascii.Error:
        raise _malformed(name, "holds a key that is not base64: copy the key anew") from None
    return key


def _from_sas(text: str, name: str) -> AzureKeys:
    sas = text.lstrip("?")
    fields = {key: values[0] for key, values in parse_qs(sas).items()}
    if "sig" not in fields:
        raise _malformed(name, "holds no SAS token, which has a part 'sig=': copy the token, not the URL")
    return AzureKeys(None, sas, expires_at=_moment(fields.get("se")))


def _moment(text: str | None) -> float | None:
    """Unix time of a date as a SAS has it: a day, or a time to the minute, second or fraction."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _malformed(name: str, text: str) -> SourceError:
    return SourceError("CredentialsMalformed", f"the Secret's {name} {text}", retryable=False)
