"""What the pages tell people to write exists: resources, values of the charts, flags, metrics, targets of make."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from e2e.behaviours.dashboard import OF_HISTOGRAMS
from lora_operator.api.v1alpha1 import API_VERSION, KIND, parse
from lora_operator.cli.main import parser as operators
from lora_operator.plugin.arguments import parser as plugins
from lora_operator.terminal.arguments import parser as terminals
from lora_operator.tools.metrics_page import programs
from tests.docs.pages import PAGES, ROOT, code_of

# of other programs: vLLM, kubectl, helm, docker, pip, the demo; whoever adds one has looked whose it is
OTHERS = {
    "--all", "--all-extras", "--api-key", "--api-server-count", "--as", "--build-arg", "--cascade",
    "--certificate-identity-regexp", "--certificate-oidc-issuer", "--config", "--create-namespace",
    "--data-parallel-multi-port-external-lb", "--data-parallel-size", "--data-parallel-size-local",
    "--dir", "--enable-lora", "--extras",
    "--enable-sleep-mode", "--field-selector", "--for", "--from-literal", "--gpu-memory-utilization", "--headless",
    "--image", "--install",
    "--lora-target-modules", "--manifest-url", "--max-cpu-loras", "--max-lora-rank", "--max-loras", "--model",
    "--nnodes", "--no-annotate", "--no-header", "--no-hooks", "--overwrite", "--pass-authorization-header",
    "--patch-file", "--port", "--prefix", "--previous",
    "--python-version", "--release", "--replicas", "--repo", "--reset-then-reuse-values", "--reuse-values",
    "--served-model-name", "--server-side", "--set", "--show-labels", "--shutdown-timeout", "--since", "--ssl-certfile",
    "--ssl-keyfile", "--strict", "--subresource", "--tag", "--tail", "--take-ownership", "--target", "--timeout",
    "--type", "--uds", "--universal",
    # of the routers of others
    "--enable-igw", "--k8s-label-selector", "--k8s-namespace", "--k8s-port", "--k8s-watcher-timeout-seconds",
    "--policy", "--restart", "--rm", "--routing-logic", "--selector", "--service-discovery",
    "--service-discovery-namespace", "--service-discovery-port",
}  # fmt: skip
NO_METRICS = {"lora_operator_unknown"}  # what Envoy's log says


def resources() -> Iterator[tuple[str, dict[str, Any]]]:
    """(page, resource), for each YAML document in a page that is a whole one."""
    for page in PAGES:
        for text in code_of(page, "yaml"):
            for document in yaml.safe_load_all(text):
                if isinstance(document, dict) and "apiVersion" in document:
                    yield page, document


def test_every_loraadapter_on_a_page_is_accepted() -> None:
    found = [(page, body) for page, body in resources() if body["kind"] == KIND]
    assert len(found) >= 8
    for page, body in found:
        assert body["apiVersion"] == API_VERSION, page
        read = parse({**body, "metadata": {"namespace": "team-a", **body["metadata"]}})
        known = read.spec.model_dump(by_alias=True, mode="json")
        assert unknown_fields(body["spec"], known) == [], (page, read.key)


def unknown_fields(written: dict[str, Any], known: dict[str, Any], path: str = "spec") -> list[str]:
    """What a page says that no field is for: the model passes it over, the API server only warns."""
    wrong = [f"{path}.{name}" for name in written if name not in known]
    for name, value in written.items():
        if isinstance(value, dict) and isinstance(known.get(name), dict) and name != "matchLabels":
            wrong += unknown_fields(value, known[name], f"{path}.{name}")
    return wrong


def flags_of(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Of the command and of those below it."""
    for action in parser._actions:
        yield from (name for name in action.option_strings if name.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from flags_of(below)


def test_every_flag_on_a_page_exists() -> None:
    ours = {*flags_of(operators()), *flags_of(plugins()), *flags_of(terminals())}
    for page, text in PAGES.items():
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text))
        assert sorted(named - ours - OTHERS) == [], page


def test_every_metric_on_a_page_exists() -> None:
    known: set[str] = set()
    for rows in programs().values():
        for row in rows:
            known |= {row.name} | {row.name + ending for ending in OF_HISTOGRAMS if row.kind == "histogram"}
    for page, text in PAGES.items():
        for name, rest in re.findall(r"`(lora_operator_\w+)([…*]?)", text):
            assert name in known | NO_METRICS or (rest and any(one.startswith(name) for one in known)), (page, name)


def test_every_target_of_make_on_a_page_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", makefile, re.MULTILINE)) | {"bench-router", "bench-staleness"}
    patterns = [target[:-1] for target in re.findall(r"^([a-z-]+%):", makefile, re.MULTILINE)]
    for page, text in PAGES.items():
        code = [
            *re.findall(r"`make ([a-z][a-z0-9-]*)", text),
            *re.findall(r"^ *make ([a-z][a-z0-9-]*)", text, re.MULTILINE),
        ]
        wrong = [one for one in code if one not in targets and not one.startswith(tuple(patterns))]
        assert wrong == [], page


def test_every_file_that_the_architecture_names_exists() -> None:
    files = {
        str(path.relative_to(ROOT))
        for folder in ("operator", "scheduler", "tests", "helm", "e2e")
        for path in (ROOT / folder).rglob("*.py")
    }
    named = set(re.findall(r"`((?:\w+/)*\w+\.py)", PAGES["docs/architecture.md"]))
    assert len(named) > 20
    assert sorted(one for one in named if not any(f"/{file}".endswith(f"/{one}") for file in files)) == []


def test_every_value_of_the_charts_on_a_page_exists() -> None:
    charts = [json.loads(path.read_text()) for path in sorted(ROOT.glob("helm/*/values.schema.json"))]
    found = 0
    for page, text in PAGES.items():
        for written in re.findall(r"`([a-z][A-Za-z]*(?:\.[a-z][A-Za-z]*)+)(?<!\.py)[`:=]", text):
            first, *rest = written.split(".")
            of_charts = [chart for chart in charts if first in chart["properties"]]
            if of_charts:
                found += 1
                assert any(has(one["properties"][first], rest, one.get("$defs", {})) for one in of_charts), (
                    page,
                    written,
                )
    assert found > 20


def has(schema: dict[str, Any], names: list[str], parts: dict[str, Any]) -> bool:
    """Whether a value may have this path below `schema`; `parts` are what it may refer to."""
    schema = parts.get(schema.get("$ref", "").rpartition("/")[2], schema)
    if not names:
        return True
    inner = schema.get("properties", {}).get(names[0])
    return inner is not None and has(inner, names[1:], parts)
