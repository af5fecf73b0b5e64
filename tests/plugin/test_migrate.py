"""Resources of other projects, as their documentation writes them, become LoraAdapters that the API server takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from lora_operator.api.v1alpha1 import parse
from lora_operator.plugin.main import main
from lora_operator.plugin.migration.translated import Untranslatable, dns_name, source_of

PEERS = Path(__file__).parent / "peers"


def migrated(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[Any], str]:
    """Exit status, the LoraAdapters, and the notes."""
    status = main(["migrate", *arguments])
    printed = capsys.readouterr()
    made = [one for one in yaml.safe_load_all(printed.out) if one]
    for one in made:
        parse({**one, "metadata": {"namespace": "default", **one["metadata"]}})
    return status, made, printed.err


def test_model_adapters_of_aibrix(capsys: pytest.CaptureFixture[str]) -> None:
    status, made, notes = migrated(capsys, str(PEERS / "aibrix.yaml"))
    assert status == 1  # one of three cannot be translated
    assert made == [
        {
            "apiVersion": "production-stack.vllm-project/v1alpha1",
            "kind": "LoraAdapter",
            "metadata": {
                "name": "text2sql-lora",
                "namespace": "team-a",
                "labels": {"model.aibrix.ai/name": "text2sql-lora", "model.aibrix.ai/port": "8000"},
            },
            "spec": {
                "baseModel": "llama2-7b",
                "servedName": "text2sql-lora",
                "adapterSource": {"type": "huggingface", "repository": "yard1/llama-2-7b-sql-lora-test"},
                "deploymentConfig": {
                    "replicaPolicy": "AllPods",
                    "podSelector": {"matchLabels": {"model.aibrix.ai/name": "llama2-7b"}},
                },
            },
        },
        {
            "apiVersion": "production-stack.vllm-project/v1alpha1",
            "kind": "LoraAdapter",
            "metadata": {"name": "sql-lora-s3", "namespace": "team-a"},
            "spec": {
                "baseModel": "llama-3",
                "adapterSource": {"type": "s3", "repository": "my-company-bucket/lora-adapters/sql-lora-s3"},
                "credentialsSecretRef": {"name": "s3-credentials"},
                "deploymentConfig": {
                    "replicas": 1,
                    "podSelector": {
                        "matchExpressions": [{"key": "model.aibrix.ai/name", "operator": "In", "values": ["llama-3"]}]
                    },
                },
            },
        },
    ]
    assert "schedulerName 'least-adapters' has no equal" in notes
    assert "additionalConfig.api-key was left out" in notes and "test-key" not in notes
    assert "Secret s3-credentials has to have the keys that are read here: AWS_ACCESS_KEY_ID" in notes
    assert "ModelAdapter from-gcs: not translated: there is no source type for gcs://" in notes


def test_several_names_for_the_files_of_one_repository_stay_several(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "four.yaml"
    file.write_text(
        "---\n".join(
            f"apiVersion: model.aibrix.ai/v1alpha1\nkind: ModelAdapter\nmetadata: {{name: chat-lora-{number}}}\n"
            "spec: {baseModel: chat, artifactURL: 'huggingface://team/chat-lora'}\n"
            for number in range(1, 5)
        )
    )
    status, made, _ = migrated(capsys, str(file))
    assert status == 0
    assert [one["spec"]["servedName"] for one in made] == [f"chat-lora-{number}" for number in range(1, 5)]


def test_lora_adapters_of_the_production_stack(capsys: pytest.CaptureFixture[str]) -> None:
    status, made, notes = migrated(capsys, str(PEERS / "production-stack.yaml"))
    assert status == 0
    assert [one["spec"] for one in made] == [
        {
            "baseModel": "Llama-3.1-8B-Instruct",
            "adapterSource": {
                "type": "huggingface",
                "repository": "nvidia/llama-3.1-nemoguard-8b-topic-control",
            },
            "credentialsSecretRef": {"name": "huggingface-credentials"},
            "deploymentConfig": {"replicas": 1},
        },
        {
            "baseModel": "llama3-8b-instr",
            "servedName": "sql-lora",
            "adapterSource": {"type": "local", "repository": "/data/lora-adapters/sql-lora-v3"},
            "deploymentConfig": {"replicaPolicy": "AllPods"},
        },
    ]
    assert "what is under 'hf_token' is read here from token" in notes
    assert "vllmApiKey was left out" in notes
    assert "algorithm 'equalized' has no equal" in notes


def test_the_config_map_of_the_lora_syncer(capsys: pytest.CaptureFixture[str]) -> None:
    status, made, notes = migrated(capsys, str(PEERS / "lora-syncer.yaml"))
    assert status == 0
    assert [(one["metadata"]["name"], one["spec"]["baseModel"], one["spec"].get("servedName")) for one in made] == [
        ("food-review-1", "meta-llama/Llama-3.1-8B-Instruct", "food-review-1"),
        ("food-review-2", "meta-llama/Llama-3.1-8B-Instruct", "food-review-2"),
        ("nec119-small-segment-lora", "Qwen/Qwen3-32B", None),
    ]
    assert "ensureNotExist (cad-fabricator) has no equal" in notes
    assert "remove the syncer from the pods" in notes


def test_several_files_and_what_is_not_meant_for_us(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("apiVersion: v1\nkind: Service\nmetadata: {name: web}\n---\n---\n")
    status, made, notes = migrated(capsys, str(other), str(PEERS / "production-stack.yaml"))
    assert (status, len(made)) == (0, 2)
    assert "Service web (v1): passed over" in notes
    assert main(["migrate", str(other)]) == 1
    assert "nothing to translate" in capsys.readouterr().err


def test_a_base_model_that_the_file_does_not_say_is_asked_for(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "one.yaml"
    file.write_text(
        "apiVersion: model.aibrix.ai/v1alpha1\nkind: ModelAdapter\nmetadata: {name: a}\n"
        "spec: {artifactURL: /models/a}\n"
    )
    status, made, notes = migrated(capsys, str(file))
    assert (status, made) == (1, [])
    assert "give --base-model NAME" in notes
    status, made, _ = migrated(capsys, str(file), "--base-model", "llama")
    assert (status, made[0]["spec"]["baseModel"]) == (0, "llama")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: [", "is not YAML"),
        ("- 1\n", "a document is no Kubernetes object"),
        ("kind: ModelAdapter\n", "a ModelAdapter has no metadata.name"),
    ],
)
def test_what_is_no_manifest_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str, said: str
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(content)
    assert main(["migrate", str(file)]) == 1
    assert said in capsys.readouterr().err


def test_a_file_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", "/nowhere/a.yaml"]) == 1
    assert capsys.readouterr().err == "error: cannot read /nowhere/a.yaml: No such file or directory\n"


@pytest.mark.parametrize(
    ("url", "kind", "repository"),
    [
        ("hf://org/repo", "huggingface", "org/repo"),
        ("org/repo", "huggingface", "org/repo"),
        ("s3://bucket/a/", "s3", "bucket/a"),
        ("https://example.com/a.tar.gz", "http", "https://example.com/a.tar.gz"),
        ("/models/a/", "local", "/models/a"),
    ],
)
def test_where_adapters_may_come_from(url: str, kind: str, repository: str) -> None:
    assert source_of(url) == {"type": kind, "repository": repository}


@pytest.mark.parametrize("url", ["", "ftp://host/a", "tos://bucket/a", "a/b/c", "name"])
def test_sources_without_an_equal_are_refused(url: str) -> None:
    with pytest.raises(Untranslatable):
        source_of(url)


def test_names_become_those_of_resources() -> None:
    assert dns_name("Food_Review.1-") == "food-review.1"
    assert dns_name("__") == "adapter"
