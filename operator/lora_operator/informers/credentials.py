"""Credentials of adapter sources: the Secret that a LoraAdapter names in its own namespace. Never logged."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable
from dataclasses import dataclass, replace
from typing import Any

from lora_operator.informers.polled import Where, why
from lora_operator.informers.records import Resource
from lora_operator.informers.secrets import read_secret, secrets
from lora_operator.kube.client import Kube, KubeError
from lora_operator.sources import Credentials, SourceError
from lora_operator.sources.credential_hosts import HOSTS_ANNOTATION

RETRY_SECONDS = 5.0
_TOKENS_OF_THE_CLUSTER = ("kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token")


@dataclass(frozen=True, slots=True)
class CredentialState:
    """What is known of one resource's Secret; neither of both means that it is just being read."""

    credentials: Credentials | None = None
    error: SourceError | None = None


class SourceCredentials:
    """Reads the Secrets that resources name; again every minute, and soon where a source did not accept them.

    `hosts` are those that any of them may be sent to, beside those that a Secret names itself.
    """

    def __init__(self, kube: Kube, changed: Callable[[], None], hosts: Collection[str] = ()) -> None:
        self._secrets = secrets(kube, changed, RETRY_SECONDS, _read)
        self._hosts = hosts

    def sync_targets(self, resources: Iterable[Resource], failing: Container[str] = ()) -> dict[str, CredentialState]:
        """By resource, for all that name a Secret. `failing` are resources whose sources do not answer."""
        wheres: dict[str, Where] = {}
        for resource in resources:
            if resource.spec is not None and resource.spec.credentials_secret_ref is not None:
                wheres[resource.key] = (resource.namespace, resource.spec.credentials_secret_ref.name)
        self._secrets.sync_targets(wheres.values(), {where for key, where in wheres.items() if key in failing})
        return {key: self._state(where) for key, where in wheres.items()}

    async def first_reads(self, timeout: float) -> None:
        """Wait for what is being read just now: a source that waits for its Secret knows nothing of what is wanted."""
        await self._secrets.first_reads(timeout)

    async def stop(self) -> None:
        await self._secrets.stop()

    def _state(self, where: Where) -> CredentialState:
        known, error = self._secrets.values.get(where), self._secrets.errors.get(where)
        if known is not None:
            return CredentialState(replace(known, hosts=(*(known.hosts or ()), *self._hosts)))
        if error is None:
            return CredentialState()
        status = error.status if isinstance(error, KubeError) else 0
        reason = {403: "SecretForbidden", 404: "SecretNotFound"}.get(status, "SecretUnavailable")
        if isinstance(error, ValueError):
            reason = "SecretOfOtherKind"
        text = f"Secret {where[1]} of credentialsSecretRef cannot be used: {why(error, 'Secret')}"
        return CredentialState(error=SourceError(reason, text, retryable=True))


def _read(body: dict[str, Any]) -> Credentials:
    """Raises ValueError for a Secret that is not for sources: tokens of service accounts have a key `token`, too."""
    kind = str(body.get("type") or "")
    if kind in _TOKENS_OF_THE_CLUSTER:
        raise ValueError(f"its type is {kind}, which opens the cluster: use one of type Opaque")
    annotations = (body.get("metadata") or {}).get("annotations") or {}
    hosts = str(annotations.get(HOSTS_ANNOTATION) or "").replace(",", " ").split()
    return Credentials(tuple(sorted(read_secret(body).items())), tuple(hosts))
