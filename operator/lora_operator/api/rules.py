"""What is right and wrong across the fields of a spec, with the words that a user gets to read."""

from __future__ import annotations

from typing import Any

from lora_operator.api.fields import Rule, Shape, cel_string

_PATH_CHARACTERS = r"[^\x00-\x1f\x7f]"
_HOST = r"[A-Za-z0-9\[\]._:-]+"  # no "@": a URL may not carry a user name or password
_URL_PATH = r"[^?#@\s\x00-\x1f\x7f]"

ADAPTER_NAME = Shape(
    r"[A-Za-z0-9][A-Za-z0-9._-]*",
    "an adapter's name has 1 to 128 letters, digits, dots, underscores and hyphens, and starts with a letter or digit",
    max_length=128,
)
SERVED_NAME = Shape(
    r"([A-Za-z0-9]|\{name\}|\{slug\})([A-Za-z0-9._-]|\{name\}|\{slug\})*",
    "servedName is a name of letters, digits, dots, underscores and hyphens, in which {name} stands for the name at "
    "the source, and {slug} for that without characters that a name may not have",
    max_length=128,
)
PREFIX = Shape(
    r"([A-Za-z0-9][A-Za-z0-9._-]*)?",
    "prefix must be the beginning of an adapter's name: letters, digits, dots, underscores and hyphens",
    max_length=128,
    min_length=0,
)
PATTERN = Shape(
    r"[A-Za-z0-9._*?\[\]!^-]+",
    "pattern is a glob over adapter names: letters, digits, dots, underscores, hyphens, and the wildcards *, ?, [...]",
    max_length=128,
)
BASE_MODEL = Shape(
    r"[^\s,\x00-\x1f\x7f]+",
    "baseModel is the model id that the pod serves: no spaces, commas or control characters",
    max_length=253,
)
SECRET_NAME = Shape(
    r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?",
    "must be the name of a Secret: lower case letters, digits, hyphens and dots",
    max_length=253,
)
OWNER = Shape(
    r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?",
    "owner has letters, digits, dots, underscores and hyphens, and starts and ends with a letter or digit",
    max_length=63,
)
LABEL_KEY = Shape(
    r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?",
    "must be a label key such as topology.kubernetes.io/zone",
    max_length=317,
)
LABEL_VALUE = Shape(
    r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?",
    "must be a label value: letters, digits, hyphens, underscores and dots, and a letter or digit at both ends",
    max_length=63,
    min_length=0,
)
REVISION = Shape(
    r"[A-Za-z0-9._:/+=-]+",
    "revision is a branch, tag or commit (huggingface) or a version id (s3, azure), without ..",
    max_length=1024,
    forbids=("..",),
)
ENDPOINT = Shape(
    rf"https?://{_HOST}(/{_URL_PATH}*)?",
    "endpoint must be an http(s) URL without user name, password, query or fragment; credentials belong in "
    "credentialsSecretRef",
    max_length=1024,
)
_IN_WORD, _WILD = r"[^\s*?\[\x00-\x1f\x7f]", r"[*?\[]"  # of a glob, which may have four wildcards in a word
_GLOB = rf"{_WILD}{_IN_WORD}*({_WILD}{_IN_WORD}*){{0,3}}"
_REST = rf"{_IN_WORD}*({_WILD}{_IN_WORD}*){{0,4}}"
KEYWORD = Shape(
    rf"([^\s!-/:-@\[-`{{-~\x00-\x1f\x7f]{_REST}|{_GLOB})( +({_IN_WORD}{_REST}|{_GLOB}))* *",
    "a keyword is a word, a phrase of several words, or either with wildcards (*, ?, [...]; at most four in a word); "
    "it starts with a letter, a digit or a wildcard",
    max_length=100,
)
REGION = Shape(r"[A-Za-z0-9_-]+", "region has letters, digits, hyphens and underscores", max_length=64)

REPOSITORY = {
    "huggingface": Shape(
        r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?(/[A-Za-z0-9_]([A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?)?",
        "for type huggingface, repository must be org/repo or org, as in the address of the page, without https://",
        max_length=1024,
        forbids=("..", "--"),
    ),
    "s3": Shape(
        rf"[a-z0-9][a-z0-9.-]{{1,61}}[a-z0-9](/{_PATH_CHARACTERS}*)?",
        "for type s3, repository must be bucket or bucket/prefix without s3://, and the bucket has 3 to 63 lower case "
        "letters, digits, dots and hyphens",
        max_length=1024,
        forbids=("..",),
    ),
    "azure": Shape(
        rf"([a-z0-9]{{3,24}}/[a-z0-9][a-z0-9-]{{1,61}}[a-z0-9](/{_PATH_CHARACTERS}*)?|https?://{_HOST}(/{_URL_PATH}*)+)",
        "for type azure, repository must be account/container, account/container/prefix, or the URL of the container "
        "without a SAS token; credentials belong in credentialsSecretRef",
        max_length=1024,
        forbids=("..", "?"),
    ),
    "local": Shape(
        rf"/{_PATH_CHARACTERS}*[^/\x00-\x1f\x7f]{_PATH_CHARACTERS}*",
        "for type local, repository must be the absolute path of a folder, without ..",
        max_length=1024,
        forbids=("/../", "/./"),
    ),
    "http": Shape(
        rf"https?://{_HOST}(/{_URL_PATH}*)?",
        "for type http, repository must be an http(s) URL without user name, password, query or fragment; credentials "
        "belong in credentialsSecretRef",
        max_length=1024,
    ),
}


def _repository_rule(source_type: str, shape: Shape) -> Rule:
    return Rule(
        f"self.type != {cel_string(source_type)} || ({shape.cel('self.repository')})",
        lambda source: source.type != source_type or shape.fits(source.repository),
        shape.message,
        ".repository",
    )


def _only_for(field: str, *source_types: str) -> Rule:
    allowed = ", ".join(cel_string(name) for name in source_types)
    return Rule(
        f"!has(self.{field}) || self.type in [{allowed}]",
        lambda source: getattr(source, field) is None or source.type in source_types,
        f"{field} means nothing for this type: it is for {' and '.join(source_types)}; remove it",
        f".{field}",
        reason="FieldValueForbidden",
    )


SOURCE_RULES = (
    *(_repository_rule(source_type, shape) for source_type, shape in REPOSITORY.items()),
    Rule(
        "self.type != 'local' || !(self.repository.endsWith('/..') || self.repository.endsWith('/.'))",
        lambda source: source.type != "local" or not source.repository.endswith(("/..", "/.")),
        REPOSITORY["local"].message,
        ".repository",
    ),
    _only_for("revision", "huggingface", "s3", "azure"),
    _only_for("endpoint", "huggingface", "s3", "azure"),
    _only_for("region", "s3"),
)


def _selects_all(source: Any) -> bool:
    return source.pattern is None and not source.adapters and not source.prefix


SPEC_RULES = (
    Rule(
        "has(self.servedName) || !has(self.adapterSource.adapters) || !(self.baseModel in self.adapterSource.adapters)",
        lambda spec: spec.served_name is not None or spec.base_model not in spec.adapter_source.adapters,
        "an adapter may not be called like its base model: requests could not tell them apart",
        ".adapterSource.adapters",
    ),
    Rule(
        "!has(self.servedName) || self.servedName != self.baseModel",
        lambda spec: spec.served_name != spec.base_model,
        "an adapter may not be called like its base model: requests could not tell them apart",
        ".servedName",
    ),
    Rule(
        "has(self.servedName) || "
        "self.adapterSource.type != 'local' || self.baseModel.contains('/') || has(self.adapterSource.pattern) || "
        "(has(self.adapterSource.prefix) && self.adapterSource.prefix != '') || "
        "(has(self.adapterSource.adapters) && size(self.adapterSource.adapters) > 0) || "
        "!(self.adapterSource.repository.endsWith('/' + self.baseModel) || "
        "self.adapterSource.repository.endsWith('/' + self.baseModel + '/'))",
        lambda spec: (
            spec.served_name is not None
            or spec.adapter_source.type != "local"
            or "/" in spec.base_model
            or not _selects_all(spec.adapter_source)
            or not spec.adapter_source.repository.rstrip("/").endswith(f"/{spec.base_model}")
        ),
        "the folder is called like the base model, and an adapter may not be: rename it, or call the adapter otherwise "
        "with servedName, or, if the adapters are in folders below it, select them with pattern: *",
        ".adapterSource.repository",
    ),
    Rule(
        "self.adapterSource.type != 'local' || !has(self.credentialsSecretRef)",
        lambda spec: spec.adapter_source.type != "local" or spec.credentials_secret_ref is None,
        "credentialsSecretRef means nothing for type local: remove it",
        ".credentialsSecretRef",
        reason="FieldValueForbidden",
    ),
)

DEPLOYMENT_RULES = (
    Rule(
        "!has(self.maxReplicas) || self.replicaPolicy == 'Auto'",
        lambda deployment: deployment.max_replicas is None or deployment.replica_policy == "Auto",
        "maxReplicas is for replicaPolicy Auto: set that policy, or remove maxReplicas",
        ".maxReplicas",
        reason="FieldValueForbidden",
    ),
    Rule(
        "!has(self.maxReplicas) || self.replicas <= self.maxReplicas",
        lambda deployment: deployment.max_replicas is None or deployment.replicas <= deployment.max_replicas,
        "replicas may not be more than maxReplicas",
        ".replicas",
    ),
)

EXPRESSION_RULES = (
    Rule(
        "self.operator in ['Exists', 'DoesNotExist'] || (has(self.values) && size(self.values) > 0)",
        lambda expression: expression.operator in ("Exists", "DoesNotExist") or len(expression.values) > 0,
        "values may not be empty for operator In or NotIn",
        ".values",
        reason="FieldValueRequired",
    ),
    Rule(
        "self.operator in ['In', 'NotIn'] || !has(self.values) || size(self.values) == 0",
        lambda expression: expression.operator in ("In", "NotIn") or not expression.values,
        "values must be empty for operator Exists or DoesNotExist",
        ".values",
        reason="FieldValueForbidden",
    ),
)
