"""Writes what follows from something else: definition and schema of settings in the charts, and manifests/install.

python helm/render.py           writes them (needs Helm, which is found or built)
python helm/render.py --check   says what would change, and ends with 1 if anything does
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from e2e.controlplane.helm import run_helm  # noqa: E402
from helm.needed_values import check_of_values  # noqa: E402
from lora_library.settings import LibrarySettings  # noqa: E402
from lora_operator.agent.settings import AgentSettings  # noqa: E402
from lora_operator.router.settings import RouterSettings  # noqa: E402
from lora_operator.settings.operator import Settings  # noqa: E402
from lora_operator.settings.options import size  # noqa: E402

CHART = ROOT / "helm" / "lora-operator"
PODS_CHART = ROOT / "helm" / "vllm-lora"
CRDS = ("loraadapters.production-stack.vllm-project.yaml", "loraendpoints.production-stack.vllm-project.yaml")
FLAGS = "templates/_flags.tpl"
CHECK = "templates/needed/values/check.yaml"  # Helm renders what is deepest first: its message comes before others
SCHEMA = "values.schema.json"
SIZE = r"^[0-9]+(\.[0-9]+)?(k|[KMGTPE]i|[MGTPE])?$"  # of a Kubernetes quantity of memory, as `options.size` reads it
INSTALL = ROOT / "manifests" / "install"
NAMESPACE = "lora-operator-system"
IMAGE = "lora-operator"
# what is Helm's, and what a value of the chart says there
PLAIN = {
    r"^ +(app\.kubernetes\.io/managed-by|helm\.sh/chart): .*\n": "",
    rf"^( +image: {IMAGE}:.*)$": r"\1  # the image that you have built and pushed",
}
# what the charts give themselves, from other values
GIVEN = frozenset({
    "adapter_root", "namespaces", "agent_token_file", "health_port", "metrics_port", "router_port",
    "lease_name", "lease_namespace", "requests_namespace", "kubeconfig", "ca_file",
    "injection_port", "injection_tls_cert", "injection_tls_key", "injected_parts",
    "adapter_services", "base_model_maps",
})  # fmt: skip
ROUTER_GIVEN = frozenset({
    "namespaces", "port", "requests_namespace", "on_demand_seconds", "kubeconfig", "picker_port",
    "picker_tls_cert", "picker_tls_key", "picker_self_signed", "picker_keys", "picker_owner_claim",
    "picker_owner_prefix",
    "picker_shared_owners",
})  # fmt: skip
LIBRARY_GIVEN = frozenset({
    "port", "metrics_port", "namespace", "work_folder", "work_bytes", "credentials_secret", "database", "kubeconfig",
    "cluster", "requests_namespace",
})  # fmt: skip
AGENT_GIVEN = frozenset({"root", "token_file", "pod", "pod_uid", "engine_port", "cache_bytes", "port", "ca_file"})
OWN_TO_A_MODEL = frozenset({"name", "model", "servedModelName"})
# these exist only where Helm is: the token is random, and the CRDs are in crds/
NOT_PLAIN = frozenset({"agent-token.yaml", "crd.yaml"})


def setting_name(field: str) -> str:
    """probe_seconds -> probeSeconds."""
    first, *rest = field.split("_")
    return first + "".join(word.capitalize() for word in rest)


def settings_schema(settings: type[Any], given: frozenset[str]) -> dict[str, Any]:
    """A JSON schema of the map of settings that a chart renders into flags."""
    properties = {
        setting_name(item.name): _property(item.metadata)
        for item in dataclasses.fields(settings)
        if item.name not in given
    }
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _property(metadata: Mapping[str, Any]) -> dict[str, Any]:
    kind, found = metadata["kind"], {"description": metadata["help"]}
    if kind is tuple:
        return found | {"type": "array", "items": {"type": "string", "minLength": 1}}
    if kind is size:
        return found | {"type": ["string", "integer"], "pattern": SIZE, "minimum": 0}
    if kind is bool:
        return found | {"type": "boolean"}
    if kind in (int, float):
        least, most = metadata.get("least", 0), metadata.get("most")
        number = {"type": "integer" if kind is int else "number", "minimum": least}
        return found | number | ({} if most is None else {"maximum": most})
    choices = metadata.get("choices")
    return found | {"type": "string"} | ({"enum": list(choices)} if choices else {})


def written_schema(path: Path, parts: Mapping[tuple[str, ...], dict[str, Any]]) -> str:
    """The schema at `path` with each of `parts` put in at its place."""
    schema = json.loads(path.read_text())
    for pointer, part in parts.items():
        place = schema
        for step in pointer[:-1]:
            place = place[step]
        place[pointer[-1]] = part
    if model := schema.get("$defs", {}).get("model"):
        schema["$defs"]["modelDefaults"] = _defaults_of(model)
    return json.dumps(schema, indent=2) + "\n"


def _defaults_of(model: Mapping[str, Any]) -> dict[str, Any]:
    """What a model may say, but for what makes it this model."""
    properties = {name: part for name, part in model["properties"].items() if name not in OWN_TO_A_MODEL}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def install_manifests() -> dict[str, str]:
    """File name -> text: the chart as `helm template` gives it, by template, without what only Helm needs."""
    out = run_helm(
        "template", "lora-operator", str(CHART), "--namespace", NAMESPACE, "--no-hooks",
        "--set", f"agentToken.create=false,crds.install=false,image.repository={IMAGE},agentInjection.enabled=false",
    )  # fmt: skip
    files: dict[str, list[str]] = {}
    for document in out.split("---\n# Source: lora-operator/templates/")[1:]:
        name, _, text = document.partition("\n")
        for pattern, plain in PLAIN.items():
            text = re.sub(pattern, plain, text, flags=re.M)
        files.setdefault(name, []).append(text.strip() + "\n")
    head = "# Rendered from helm/lora-operator by `make manifests`: change the chart, not this file.\n"
    return {name: head + "---\n".join(texts) for name, texts in files.items() if name not in NOT_PLAIN}


def wanted() -> dict[Path, str]:
    """What every generated file should say."""
    operator, router = settings_schema(Settings, GIVEN), settings_schema(RouterSettings, ROUTER_GIVEN)
    agent = settings_schema(AgentSettings, AGENT_GIVEN)
    schemas = {
        CHART: {
            ("properties", "settings"): operator,
            ("properties", "router", "properties", "settings"): router,
            ("properties", "agentInjection", "properties", "settings"): agent,
            ("properties", "library", "properties", "settings"): settings_schema(LibrarySettings, LIBRARY_GIVEN),
        },
        PODS_CHART: {("$defs", "agentSettings"): agent},
    }
    return {
        **{CHART / "files" / name: (ROOT / "crds" / name).read_text() for name in CRDS},
        PODS_CHART / FLAGS: (CHART / FLAGS).read_text(),  # a chart can read nothing outside of itself
        **{chart / CHECK: check_of_values(chart) for chart in schemas},
        **{chart / SCHEMA: written_schema(chart / SCHEMA, parts) for chart, parts in schemas.items()},
    }


def _differs(path: Path, text: str, check: bool) -> bool:
    """Write it, or say in what it differs."""
    found = path.read_text() if path.exists() else ""
    if found == text:
        return False
    if check:
        lines = difflib.unified_diff(found.splitlines(), text.splitlines(), str(path), "rendered", lineterm="", n=1)
        sys.stderr.write("\n".join(lines) + "\n")
    else:
        path.write_text(text)
        print(f"wrote {path.relative_to(ROOT)}")
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing, and end with 1 if something would")
    check = parser.parse_args().check
    # first what the chart is made of, then what is made of the chart
    changed = [_differs(path, text, check) for path, text in wanted().items()]
    changed += [_differs(INSTALL / name, text, check) for name, text in install_manifests().items()]
    if check and any(changed):
        sys.stderr.write("generated files are out of date: run make manifests\n")
    return int(check and any(changed))


if __name__ == "__main__":
    sys.exit(main())
