"""What the rules of the resource accept and refuse, as one table for both of their readers: the API server (CEL and
schema) and the operator (`parse`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

REMOVED = object()


@dataclass(frozen=True)
class Case:
    """A change to a valid spec; `field` and `says` are what the refusal must name, None where it is to be accepted."""

    name: str
    change: Mapping[str, Any]
    field: str | None = None
    says: str = ""

    @property
    def accepted(self) -> bool:
        return self.field is None


def an_adapter(name: str = "a", change: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A LoraAdapter of a local source, with `change` merged into its spec."""
    spec: dict[str, Any] = {
        "baseModel": "tiny",
        "adapterSource": {"type": "local", "repository": "/adapters/sql"},
    }
    return {
        "apiVersion": "production-stack.vllm-project/v1alpha1",
        "kind": "LoraAdapter",
        "metadata": {"name": name},
        "spec": _merged(spec, change or {}),
    }


def _merged(spec: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(spec)
    for key, value in change.items():
        if value is REMOVED:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = _merged(result[key], value)
        else:
            result[key] = value
    return result


def _source(type_: str, repository: str, **more: Any) -> dict[str, Any]:
    return {"adapterSource": {"type": type_, "repository": repository, **more}}


def _repository(type_: str, accepted: list[str], refused: list[str], says: str) -> list[Case]:
    field_ = "spec.adapterSource.repository"
    return [
        *(Case(f"{type_} takes {text[:60]}", _source(type_, text)) for text in accepted),
        *(Case(f"{type_} refuses {text[:60]}", _source(type_, text), field_, says) for text in refused),
    ]


def _values(path: str, accepted: list[Any], refused: list[Any], says: str = "", **base: Any) -> list[Case]:
    def change(value: Any) -> dict[str, Any]:
        nested: Any = value
        for part in reversed(path.split(".")):
            nested = {part: nested}
        return _merged(base, nested)

    return [
        *(Case(f"{path} takes {str(value)[:60]}", change(value)) for value in accepted),
        *(
            Case(f"{path} refuses {str(value)[:60] or 'nothing'}", change(value), f"spec.{path}", says)
            for value in refused
        ),
    ]


_HF = _source("huggingface", "org/repo")
_S3 = _source("s3", "bucket/prefix")
_EXPRESSIONS = "deploymentConfig.podSelector.matchExpressions"


def _expression(operator: str, values: list[str] | None) -> dict[str, Any]:
    expression: dict[str, Any] = {"key": "tier", "operator": operator}
    if values is not None:
        expression["values"] = values
    return {"deploymentConfig": {"podSelector": {"matchExpressions": [expression]}}}


REPOSITORIES = [
    *_repository(
        "huggingface",
        ["org/repo", "org", "a", "Org-1/repo_v1.0", "_a/b_", "a/" + "b" * 96],
        [
            "https://hub.example/org/repo",
            "a/b/c",
            "org/",
            "/repo",
            "org/re po",
            "-org/repo",
            "org/repo.",
            "org/a..b",
            "org/a--b",
            "a/" + "b" * 97,
            "org/r,epo",
        ],
        "must be org/repo or org",
    ),
    *_repository(
        "s3",
        ["bucket", "my.bucket-1/some/prefix", "abc/", "bucket/with space/ünïcode", "b" * 63],
        [
            "s3://bucket/prefix",
            "ab",
            "Bucket",
            "-bucket",
            "bucket-",
            "my_bucket/x",
            "bucket/../other",
            "b" * 64,
            "bucket/a\nb",
        ],
        "must be bucket or bucket/prefix",
    ),
    *_repository(
        "azure",
        [
            "account1/container",
            "acc/my-container/pre/fix",
            "https://account.blob.core.example/container/prefix",
            "http://127.0.0.1:10000/devstoreaccount1/container",
        ],
        [
            "account",
            "Account/container",
            "ac/container",
            "account/co",
            "account/container/../x",
            "https://account.blob.core.example",
            "https://account.blob.core.example/container?sv=2024&sig=abc",
            "https://user:password@account.blob.core.example/container",
            "wasbs://container@account/x",
        ],
        "must be account/container",
    ),
    *_repository(
        "local",
        ["/adapters", "/adapters/sql/", "/a b/c", "/a..b/c", "/.hidden"],
        [
            "adapters/sql",
            "./adapters",
            "/",
            "//",
            "/adapters/../etc",
            "/adapters/..",
            "/..",
            "/a/./b",
            "/a/.",
            "/a\nb",
            "file:///adapters",
        ],
        "must be the absolute path",
    ),
    *_repository(
        "http",
        [
            "https://files.example/adapters/sql",
            "http://10.0.0.1:8080/a.tar.gz",
            "https://files.example",
            "http://[::1]:80/a",
        ],
        [
            "ftp://files.example/a",
            "files.example/a",
            "https://user:password@files.example/a",
            "https://token@files.example/a",
            "https://files.example/a?token=abc",
            "https://files.example/a#b",
            "https:///a",
            "https://files.example/a b",
        ],
        "must be an http(s) URL",
    ),
]

SOURCES = [
    Case("repository is required", {"adapterSource": {"repository": REMOVED}}, "spec.adapterSource.repository"),
    Case("type is required", {"adapterSource": {"type": REMOVED}}, "spec.adapterSource.type"),
    Case("adapterSource is required", {"adapterSource": REMOVED}, "spec.adapterSource"),
    Case("baseModel is required", {"baseModel": REMOVED}, "spec.baseModel"),
    *_values("adapterSource.type", [], ["gcs", "HuggingFace", ""]),
    *_values("adapterSource.repository", [], ["", "/" + "a" * 1024]),
    *_values("adapterSource.revision", ["main", "refs/pr/1", "2026-07-07T00:00:00.0000000Z", "a+/=", "v" * 1024],
             ["", "a b", "../main", "a,b", "v" * 1025], **_HF),
    *_values("adapterSource.revision", ["_7nBKb2.Zx"], [], **_S3),
    *_values("adapterSource.revision", [], ["main"], "means nothing for this type"),
    *_values("adapterSource.revision", [], ["main"], "means nothing", **_source("http", "https://files.example/a")),
    *_values("adapterSource.endpoint", ["https://s3.example", "http://minio.ml.svc:9000/", "https://hub.example/mirror"],
             ["minio:9000", "https://user:password@s3.example", "https://s3.example?a=b", "https://", "", "http://a b",
              "https://s3.example/" + "a" * 1024], **_S3),
    *_values("adapterSource.endpoint", ["https://hub.example"], [], **_HF),
    *_values("adapterSource.endpoint", [], ["https://s3.example"], "means nothing"),
    *_values("adapterSource.region", ["eu-central-1", "garage"], ["", "eu central", "r" * 65], **_S3),
    *_values("adapterSource.region", [], ["eu-central-1"], "means nothing", **_HF),
    *_values("adapterSource.pattern", ["*", "sql-?[0-9]*", "[!a]*", "p" * 128], ["", "a/*", "a,b", "{a,b}", "p" * 129]),
    *_values("adapterSource.prefix", ["", "lora-", "p" * 128], ["-a", "a/", "a,", "p" * 129]),
    *_values("adapterSource.maxAdapters", [1, 1000], [0, -1, 1001]),
    *_values("adapterSource.adapters", [[], ["a"], ["A1.b_c-d", "z" * 128], [f"a{i}" for i in range(1000)]],
             [[f"a{i}" for i in range(1001)]]),
    Case("a name may not be twice in the list", {"adapterSource": {"adapters": ["a", "a"]}},
         "spec.adapterSource.adapters[1]", "Duplicate value"),
    *(
        Case(f"an adapter may not be called {name[:20]!r}", {"adapterSource": {"adapters": ["ok", name]}},
             "spec.adapterSource.adapters[1]", says)
        for name, says in [("a,b", "an adapter's name"), ("a/b", "an adapter's name"), ("..", "an adapter's name"),
                           ("-a", "an adapter's name"), ("a b", "an adapter's name"), ("a\n", "an adapter's name"),
                           ("ä", "an adapter's name"), ("", ""), ("a" * 129, "")]
    ),
    Case("credentials are for other sources than local", {"credentialsSecretRef": {"name": "s"}},
         "spec.credentialsSecretRef", "means nothing for type local"),
    *_values("credentialsSecretRef.name", ["source-credentials", "a.b"], ["", "Secret", "a_b", "-a", "s" * 254], **_HF),
    Case("a secret reference needs a name", {"credentialsSecretRef": {}, **_HF}, "spec.credentialsSecretRef.name"),
]  # fmt: skip

NAMES = [
    *_values("baseModel", ["tiny", "meta-llama/Llama-2-70b-hf", "/models/llama", "b" * 253],
             ["", "a b", "a,b", "a\tb", "b" * 254]),
    Case("an adapter in the list may not be called like its base model",
         {"adapterSource": {"adapters": ["sql", "tiny"]}}, "spec.adapterSource.adapters",
         "may not be called like its base model"),
    Case("a folder may not be called like its base model", _source("local", "/adapters/tiny"),
         "spec.adapterSource.repository", "called like the base model"),
    Case("a folder with a slash at its end neither", _source("local", "/adapters/tiny/"),
         "spec.adapterSource.repository", "called like the base model"),
    Case("a folder of adapters may be called like the base model", _source("local", "/adapters/tiny", pattern="*")),
    Case("so may one from which names are chosen", _source("local", "/adapters/tiny", adapters=["sql"])),
    Case("so may one from which a prefix is chosen", _source("local", "/adapters/tiny", prefix="sql-")),
    Case("an empty prefix chooses nothing", _source("local", "/adapters/tiny", prefix=""),
         "spec.adapterSource.repository", "called like the base model"),
    Case("a folder below one called like the base model is another name", _source("local", "/tiny/sql")),
    Case("a folder whose name ends like the base model is another name", _source("local", "/adapters/not-tiny")),
    Case("a base model with a slash cannot be a folder's name",
         {"baseModel": "meta/tiny", **_source("local", "/adapters/meta/tiny")}),
    Case("adapters may be in the repository of their base model", {"baseModel": "org/repo", **_HF}),
    Case("one in the list may be called otherwise than the base model",
         {"servedName": "sql", "adapterSource": {"adapters": ["tiny"]}}),
    Case("a folder called like the base model may hold one that is called otherwise",
         {"servedName": "sql", **_source("local", "/adapters/tiny")}),
    Case("nor may it be called so", {"servedName": "tiny"}, "spec.servedName", "may not be called like its base model"),
]  # fmt: skip

DEPLOYMENT = [
    *_values("deploymentConfig.replicas", [0, 1, 2000], [-1, 2001]),
    *_values("deploymentConfig.replicaPolicy", ["Fixed", "AllPods", "Auto"], ["auto", "All", ""]),
    Case("maxReplicas is for Auto", {"deploymentConfig": {"replicaPolicy": "Auto", "replicas": 2, "maxReplicas": 2}}),
    *_values("deploymentConfig.maxReplicas", [], [3], "is for replicaPolicy Auto"),
    *_values("deploymentConfig.maxReplicas", [], [0, 2001], deploymentConfig={"replicaPolicy": "Auto"}),
    *_values("deploymentConfig.maxSurge", [0, 1, 2000], [-1, 2001]),
    Case("replicas may not pass maxReplicas",
         {"deploymentConfig": {"replicaPolicy": "Auto", "replicas": 3, "maxReplicas": 2}},
         "spec.deploymentConfig.replicas", "may not be more than maxReplicas"),
    *_values("deploymentConfig.loadOnStartup", [True, False], ["perhaps"]),
    Case("an empty selector selects by base model", {"deploymentConfig": {"podSelector": {}}}),
    *_values("deploymentConfig.podSelector.matchLabels", [{"a": "b", "example.com/c": ""}],
             [{f"k{i}": "v" for i in range(65)}]),
    *_values("deploymentConfig.podSelector.matchLabels.tier", ["gold", ""], ["-gold", "a b", "v" * 64, "a,b"],
             deploymentConfig={"podSelector": {"matchLabels": {}}}),
    *(Case(f"{op} takes values", _expression(op, ["gold", "silver"])) for op in ("In", "NotIn")),
    *(Case(f"{op} takes no values", _expression(op, None)) for op in ("Exists", "DoesNotExist")),
    *(Case(f"{op} refuses no values", _expression(op, values), f"spec.{_EXPRESSIONS}[0].values", "may not be empty")
      for op in ("In", "NotIn") for values in ([], None)),
    *(Case(f"{op} refuses values", _expression(op, ["a"]), f"spec.{_EXPRESSIONS}[0].values", "must be empty")
      for op in ("Exists", "DoesNotExist")),
    Case("operator Gt is unknown", _expression("Gt", ["1"]), f"spec.{_EXPRESSIONS}[0].operator"),
    Case("a value is a label value", _expression("In", ["a b"]), f"spec.{_EXPRESSIONS}[0].values[0]", "a label value"),
    Case("at most 64 values", _expression("In", [f"v{i}" for i in range(65)]), f"spec.{_EXPRESSIONS}[0].values"),
    *_values(_EXPRESSIONS, [], [[{"key": f"k{i}", "operator": "Exists"} for i in range(65)]]),
    *(Case(f"{key[:20]!r} is no label key", {"deploymentConfig": {"podSelector": {"matchExpressions": [
        {"key": key, "operator": "Exists"}]}}}, f"spec.{_EXPRESSIONS}[0].key")
      for key in ("", "a b", "/a", "A.b/c", "k" * 318)),
]  # fmt: skip

SCHEDULING = [
    *_values("schedulingConfig.priority", [-1000000000, 0, 1000000000], [-1000000001, 1000000001]),
    *_values("schedulingConfig.preemptionPolicy", ["LowerPriority", "None"], ["Never", "none"]),
    *_values("schedulingConfig.resourceRequirements.memory",
             ["2Gi", "512Mi", "0.5G", "100", "1e9", "1E3", 1, 1073741824, "9223372036854775807"],
             ["0", "0Gi", "0.0", 0, -1, "-1Gi", "lots", "2GB", "2 Gi", "1m", "1e100", "", "9" * 33],
             "memory must be a positive"),
    *_values("schedulingConfig.topologyKey", ["topology.kubernetes.io/zone", "rack"], ["", "a b", "/zone", "k" * 318]),
    *_values(
        "servedName",
        ["chat", "team-{name}", "{slug}.v1", "{name}-{slug}"],
        ["", "a b", "-a", "{other}", "{name", "a,b", "a/b"],
    ),
    *_values("baseModelCheck", ["Name", "Skip"], ["name", "None", ""]),
    *_values("owner", ["team-a", "A.b_c", "o" * 63], ["", "-a", "a/b", "o" * 64]),
]  # fmt: skip

SELECTION = [
    *_values("selection.keywords", [["sql"], ["select * from", "*sql", "c++", "数据库", "[pq]ost*"], []],
             [[f"k{i}" for i in range(51)]]),
    *(Case(f"{text[:20]!r} is no keyword", {"selection": {"keywords": [text]}}, "spec.selection.keywords[0]",
           "a keyword is") for text in ("!!!", " x", "a*b*c*d*e*", "x\ty")),
    *(Case(f"a keyword of {len(text)} characters", {"selection": {"keywords": [text]}}, "spec.selection.keywords[0]")
      for text in ("k" * 101, "")),
    *_values("selection.description", ["Writes SQL.\nAlso explains it."], ["", "d" * 1001]),
    *_values("selection.priority", [-1000, 0, 1000], [-1001, 1001]),
    Case("single adapters have their own", {"selection": {"adapters": [
        {"name": "sql", "keywords": ["sql"], "description": "SQL", "priority": 3}, {"name": "chat"}]}}),
    *_values("selection.adapters", [], [[{"name": f"a{i}"} for i in range(101)]]),
    Case("a single adapter has fewer of its own", {"selection": {"adapters": [
        {"name": "sql", "keywords": [f"k{i}" for i in range(26)]}]}}, "spec.selection.adapters[0].keywords"),
    Case("an adapter is named", {"selection": {"adapters": [{"keywords": ["sql"]}]}},
         "spec.selection.adapters[0].name"),
    Case("a single adapter's keywords are looked at too", {"selection": {"adapters": [
        {"name": "sql", "keywords": ["ok", "!"]}]}}, "spec.selection.adapters[0].keywords[1]", "a keyword is"),
]  # fmt: skip

CASES = [*REPOSITORIES, *SOURCES, *NAMES, *DEPLOYMENT, *SCHEDULING, *SELECTION]
