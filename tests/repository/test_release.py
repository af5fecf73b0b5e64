"""What a release consists of: one version everywhere, charts that name their image, a plugin that krew can install."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from release import charts, krew, manifests, plugin
from release.versions import disagreements, section, versions

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / ".github" / "scripts"
CHANGELOG = """# Changelog

## 1.2.0, 2031-05-06
### Added
- A thing
  of two lines.
### Known gaps
- A gap.

## 1.1.0, 2031-01-01
### Fixed
- An old one.
"""
DIGEST = "sha256:" + "5" * 64


def test_everything_that_has_a_version_has_the_same() -> None:
    assert disagreements(versions(), None, "") == []


def test_a_version_that_differs_is_named_with_its_place() -> None:
    found = {"pyproject.toml": "1.2.0", "Dockerfile VERSION": "1.1.0", "Makefile IMAGE": ""}
    assert disagreements(found, None, "") == [
        "Dockerfile VERSION says 1.1.0, pyproject.toml 1.2.0",
        "Makefile IMAGE says no version, pyproject.toml 1.2.0",
    ]


def test_a_tag_has_to_be_of_that_version_and_in_the_changelog_with_its_date() -> None:
    found = {"pyproject.toml": "1.2.0"}
    assert disagreements(found, "v1.2.0", CHANGELOG) == []
    assert disagreements(found, "v1.3.0", CHANGELOG) == [
        "the tag is v1.3.0, and pyproject.toml's version would need v1.2.0"
    ]
    assert disagreements(found, "v1.2.0", "## 1.2.0, not released yet\n") == [
        "docs/changelog.md says of 1.2.0 that it is not released yet: give the date instead"
    ]


def test_notes_are_what_the_changelog_says_of_that_version_alone() -> None:
    assert section(CHANGELOG, "1.2.0") == "### Added\n- A thing\n  of two lines.\n### Known gaps\n- A gap.\n"
    assert section(CHANGELOG, "1.1.0") == "### Fixed\n- An old one.\n"


@pytest.mark.parametrize("name", [charts.OPERATOR, charts.PODS])
def test_a_released_chart_names_its_image_and_the_repository_none(name: str, tmp_path: Path) -> None:
    chart = tmp_path / name
    charts.prepare(ROOT / "helm" / name, chart, "registry.example.com/team", "https://example.com/it", CHANGELOG)

    def image(values: Path) -> str:
        told = yaml.safe_load(values.read_text())
        return str(told["image"]["repository"] if name == charts.OPERATOR else told["delivery"]["agent"]["image"])

    version = versions()["pyproject.toml"]
    tag = "" if name == charts.OPERATOR else f":{version}"
    assert image(ROOT / "helm" / name / "values.yaml") == ""
    assert image(chart / "values.yaml") == f"registry.example.com/team/lora-operator{tag}"
    told = yaml.safe_load((chart / "Chart.yaml").read_text())
    images = yaml.safe_load(told["annotations"]["artifacthub.io/images"])
    assert images[0] == {"name": "lora-operator", "image": f"registry.example.com/team/lora-operator:{version}"}
    assert told["home"] == "https://example.com/it"


def test_artifact_hub_is_told_what_changed(tmp_path: Path) -> None:
    version = versions()["pyproject.toml"]
    changelog = CHANGELOG.replace("1.2.0", version)
    charts.prepare(ROOT / "helm" / charts.PODS, tmp_path / "chart", "registry.example.com", "", changelog)
    told = yaml.safe_load((tmp_path / "chart" / "Chart.yaml").read_text())
    assert yaml.safe_load(told["annotations"]["artifacthub.io/changes"]) == [
        {"kind": "added", "description": "A thing of two lines."}
    ]


@pytest.mark.parametrize("registry", ["", "https://registry.example.com", "Registry/team", "registry.example.com/"])
def test_what_is_no_registry_is_refused(registry: str, tmp_path: Path) -> None:
    with pytest.raises(charts.ChartsError, match="is no registry such as"):
        charts.prepare(ROOT / "helm" / charts.PODS, tmp_path / "chart", registry, "", CHANGELOG)


@pytest.mark.parametrize("name", [charts.OPERATOR, charts.PODS])
def test_annotations_for_artifact_hub_are_yaml_in_yaml(name: str) -> None:
    annotations = yaml.safe_load((ROOT / "helm" / name / "Chart.yaml").read_text())["annotations"]
    assert all(isinstance(text, str) for text in annotations.values())
    assert annotations["artifacthub.io/license"] == "Apache-2.0"
    crds = yaml.safe_load(annotations.get("artifacthub.io/crds", "[]"))
    for crd in crds:
        definition = yaml.safe_load((ROOT / "crds" / f"{crd['name']}.yaml").read_text())
        assert crd["kind"] == definition["spec"]["names"]["kind"]
        assert crd["version"] in [one["name"] for one in definition["spec"]["versions"]]
    assert len(crds) == (len(list((ROOT / "crds").glob("*.yaml"))) if name == charts.OPERATOR else 0)


def test_one_file_installs_everything_with_the_image_of_the_registry() -> None:
    version = versions()["pyproject.toml"]
    documents = list(yaml.safe_load_all(manifests.one_file("registry.example.com/team", version)))
    assert documents[0]["kind"] == "Namespace"
    images = [
        container["image"]
        for document in documents
        if document["kind"] == "Deployment"
        for container in document["spec"]["template"]["spec"]["containers"]
    ]
    assert set(images) == {f"registry.example.com/team/lora-operator:{version}"}
    with pytest.raises(ValueError, match="make manifests"):
        manifests.one_file("registry.example.com/team", "9.9.9")


def test_krew_gets_an_archive_and_its_digest_for_each_platform(tmp_path: Path) -> None:
    version = versions()["pyproject.toml"]
    for platform in plugin.PLATFORMS:
        (tmp_path / f"kubectl-lora-{version}-{platform}.tar.gz").write_text(platform)
    told = krew.manifest(tmp_path, "https://example.com/v", "https://example.com", version)
    assert told["metadata"]["name"] == "lora"
    assert told["spec"]["version"] == f"v{version}"
    assert [one["selector"]["matchLabels"] for one in told["spec"]["platforms"]] == [
        {"os": system, "arch": architecture} for system in ("linux", "darwin") for architecture in ("amd64", "arm64")
    ]
    first = told["spec"]["platforms"][0]
    assert first["uri"] == f"https://example.com/v/kubectl-lora-{version}-linux-amd64.tar.gz"
    assert first["sha256"] == hashlib.sha256(b"linux-amd64").hexdigest()
    assert first["bin"] in plugin.COMMANDS
    assert len(told["spec"]["shortDescription"]) <= 50, "krew's list has room for no more"


def test_the_plugin_names_the_pythons_that_it_is_packed_for() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    assert f'requires-python = ">={plugin.PYTHONS[0]}"' in project
    caveats = yaml.safe_load(krew.TEMPLATE.read_text())["spec"]["caveats"]
    assert f"Python {plugin.PYTHONS[0]} to {plugin.PYTHONS[-1]}" in caveats


def test_packages_that_are_the_same_for_all_pythons_are_packed_once(tmp_path: Path) -> None:
    one, other = tmp_path / "py3.11", tmp_path / "py3.12"
    for folder, native in ((one, "for 11"), (other, "for 12")):
        for file, text in (("same/a.py", "a"), ("native/a.py", "a"), ("native/b.so", native), ("six.py", "6")):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(text)
    plugin.share([one, other], tmp_path / "any")
    assert sorted(path.name for path in (tmp_path / "any").iterdir()) == ["same", "six.py"]
    assert [sorted(path.name for path in folder.rglob("*")) for folder in (one, other)] == [
        ["a.py", "b.so", "native"]
    ] * 2


def test_an_archive_of_the_same_files_has_the_same_bytes(tmp_path: Path) -> None:
    digests = set()
    for time in (1_000_000, 2_000_000):
        top = tmp_path / str(time)
        top.mkdir()
        for name in ("b.py", "a.py", plugin.COMMANDS[0]):
            (top / name).write_text(name)
            os.utime(top / name, (time, time))
        plugin.write_archive(top, tmp_path / "archive.tar.gz")
        digests.add(hashlib.sha256((tmp_path / "archive.tar.gz").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_a_python_for_which_the_plugin_is_not_packed_is_told_which_ones_do(tmp_path: Path) -> None:
    (tmp_path / "lib" / "py3.9").mkdir(parents=True)
    (tmp_path / "lib" / "py3.10").mkdir()
    program = tmp_path / plugin.COMMANDS[0]
    program.write_text(plugin.LAUNCHER.read_text())
    run = subprocess.run([sys.executable, str(program)], capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.startswith("kubectl lora needs one of Python 3.9, 3.10, and python3 on the PATH is ")


def script(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/tmp")}
    command = [str(SCRIPTS / name), *arguments]
    return subprocess.run(command, env={**clean, **environment}, capture_output=True, text=True)


def test_the_image_is_pushed_for_both_platforms_with_sbom_and_provenance(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text(
        f"#!{sys.executable}\nimport json, pathlib, sys\n"
        "pathlib.Path(sys.argv[0] + '.said').write_text(json.dumps(sys.argv[1:]))\n"
        "metadata = sys.argv[sys.argv.index('--metadata-file') + 1]\n"
        f"pathlib.Path(metadata).write_text(json.dumps({{'containerimage.digest': '{DIGEST}'}}))\n"
    )
    docker.chmod(0o755)
    output = tmp_path / "output"
    run = script(
        "push-image", PATH=f"{tmp_path}:{os.environ['PATH']}", REGISTRY="registry.example.com/Team", VERSION="1.2.0",
        EXTRAS="envoy otel", GITHUB_OUTPUT=str(output), GITHUB_SERVER_URL="https://example.com",
        GITHUB_REPOSITORY="a/b",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert output.read_text() == f"name=registry.example.com/team/lora-operator\ndigest={DIGEST}\n"
    said = json.loads((tmp_path / "docker.said").read_text())
    assert said[:4] == ["buildx", "build", ".", "--push"]
    assert {"linux/amd64,linux/arm64", "EXTRAS=envoy otel", "VERSION=1.2.0", "SOURCE=https://example.com/a/b"} <= set(
        said
    )
    assert {"--sbom=true", "--provenance=mode=max", "registry.example.com/team/lora-operator:1.2.0"} <= set(said)


def test_what_is_signed_is_named_by_its_digest() -> None:
    run = script("sign", "registry.example.com/lora-operator:1.2.0")
    assert run.returncode == 1
    assert "names no digest" in run.stderr


def test_a_signature_and_the_sbom_are_attached(tmp_path: Path) -> None:
    cosign = tmp_path / "cosign"
    cosign.write_text('#!/bin/sh\necho "$@" >>"$0.said"\n')
    cosign.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    run = script("sign", f"registry.example.com/a@{DIGEST}", "sbom.json", PATH=path, COSIGN_FLAGS="--key k")
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "cosign.said").read_text().splitlines() == [
        f"sign --yes --key k registry.example.com/a@{DIGEST}",
        f"attest --yes --key k --type cyclonedx --predicate sbom.json registry.example.com/a@{DIGEST}",
    ]


def test_without_artifact_hub_nothing_is_pushed_for_it() -> None:
    run = script("push-artifacthub", "lora-operator", REGISTRY="registry.example.com")
    assert run.returncode == 0
    assert "nothing to push" in run.stdout
