"""What a source holds of which status does not tell: asked with the user's own rights, or assumed as he says."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lora_operator.api.quantity import parse_quantity
from lora_operator.artifacts import Inspection
from lora_operator.cache.paths import is_name
from lora_operator.engines.served_names import names_of_model
from lora_operator.informers.records import PodRecord, Resource
from lora_operator.informers.secrets import read_secret
from lora_operator.informers.sources import SourceView, request_of
from lora_operator.kube.client import KubeError
from lora_operator.plugin.connect import Cluster
from lora_operator.plugin.problems import BAD_COMMAND_LINE, PluginError
from lora_operator.sources import Credentials, FoundAdapter, Resolution, SourceError, SourceRequest, sources_by_type

PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Guess:
    """What to assume of adapters whose files cannot be looked at."""

    rank: int | None
    bytes: int | None

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Guess:
        """Raises PluginError."""
        try:
            size = None if arguments.bytes is None else parse_quantity(arguments.bytes)
        except ValueError as error:
            raise PluginError(f"--bytes: {error}", BAD_COMMAND_LINE) from error
        return cls(arguments.rank, size)


@dataclass(frozen=True, slots=True)
class Answers:
    """By resource; `unknown` says of which nothing is known, and why; `notes` what was assumed."""

    views: Mapping[str, SourceView]
    unknown: dict[str, str]
    notes: tuple[str, ...]


async def ask_sources(
    resources: Iterable[Resource],
    pods: Mapping[str, PodRecord],
    cluster: Cluster | None,
    guess: Guess,
    *,
    offline: bool,
) -> Answers:
    """Look at the sources of all resources whose status names no adapters. What `pods` call the models that they serve
    counts as it does for the operator."""
    todo = [r for r in resources if r.spec is not None and r.deleted_at is None and not r.published.adapters]
    asked = await asyncio.gather(*(_ask(resource, _aliases(resource, pods), cluster, offline) for resource in todo))
    views: dict[str, SourceView] = {}
    unknown: dict[str, str] = {}
    notes: list[str] = []
    for resource, answer in zip(todo, asked, strict=True):
        if isinstance(answer, SourceView):
            views[resource.key] = answer
            continue
        assumed = _assumed(resource, guess)
        if assumed is None:
            unknown[resource.key] = f"{answer}; say --rank (and --bytes) to count with an assumption"
            continue
        names = ", ".join(found.name for found in assumed.resolution.adapters) if assumed.resolution else ""
        notes.append(f"LoraAdapter {resource.key}: {answer}; assumed: {names} of rank {guess.rank}")
        views[resource.key] = assumed
    return Answers(views, unknown, tuple(notes))


def _aliases(resource: Resource, pods: Mapping[str, PodRecord]) -> set[str]:
    """All that pods call the resource's base model."""
    assert resource.spec is not None
    model = resource.spec.base_model
    serving = (one for one in pods.values() if one.pod.namespace == resource.namespace and model in one.pod.base_models)
    return {name for record in serving for name in names_of_model(record, None)}


async def _ask(resource: Resource, aliases: set[str], cluster: Cluster | None, offline: bool) -> SourceView | str:
    """The source's answer, or why there is none."""
    if offline:
        return "its source was not asked (--offline)"
    assert resource.spec is not None
    reference = resource.spec.credentials_secret_ref
    credentials = None
    if reference is not None:
        if cluster is None:
            return f"its source needs Secret {reference.name}, and no cluster was read"
        try:
            values = read_secret(await cluster.secret(resource.namespace, reference.name))
        except KubeError as error:
            return f"its source needs Secret {reference.name}, which you cannot read ({error.status or error})"
        credentials = Credentials(tuple(sorted(values.items())))
    request = request_of(resource.spec, {}, aliases, credentials)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            resolution = await sources_by_type(settle_seconds=0.0)[request.type].resolve(request, None)
    except SourceError as error:
        return f"its source cannot be read from here ({error.reason}: {error})"
    except ImportError as error:
        return f"its source cannot be read from here ({error}; pip install 'lora-operator[sources]')"
    except TimeoutError:
        return f"its source gave no answer within {PATIENCE_SECONDS:g} s"
    except Exception as error:  # whatever a store's library makes of this machine
        return f"its source cannot be read from here ({type(error).__name__}: {error})"
    return SourceView(request, resolution, None, checked=True)


def _assumed(resource: Resource, guess: Guess) -> SourceView | None:
    """The adapters that the spec names, or one called like the resource, with the rank and size that were given."""
    spec = resource.spec
    assert spec is not None
    size = spec.scheduling_config.resource_requirements.memory_bytes or guess.bytes
    if guess.rank is None or size is None:
        return None
    request = request_of(spec, {})
    names = spec.adapter_source.adapters or (_last_part(request, resource.name),)
    found = tuple(_found(resource.key, name, guess.rank, size) for name in sorted(names))
    return SourceView(request, Resolution(found), None, checked=True)


def _last_part(request: SourceRequest, otherwise: str) -> str:
    """What a source with one adapter calls it: like its folder."""
    name = request.repository.rstrip("/").rpartition("/")[2]
    return name if is_name(name) else otherwise


def _found(resource: str, name: str, rank: int, size: int) -> FoundAdapter:
    inspection = Inspection(
        rank=rank, bytes=size, peft_type="LORA", base_model=None, targets=(), layers=0, dtype="", use_rslora=False,
        features=frozenset(), shapes=(), files=(),
    )  # fmt: skip
    fingerprint = hashlib.sha256(f"{resource}/{name}".encode()).hexdigest()[:16]
    return FoundAdapter(name, fingerprint, (), inspection, "")
