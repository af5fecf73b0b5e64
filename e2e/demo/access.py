"""A Secret with a source's credentials and the operator's right to read this one, as in manifests/samples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lora_operator.sources.credential_hosts import HOSTS_ANNOTATION

SAMPLE = Path(__file__).resolve().parents[2] / "manifests" / "samples" / "source-credentials.yaml"
SECRET = "source-credentials"


def access(values: Mapping[str, str], name: str = SECRET) -> list[dict[str, Any]]:
    """What to apply: the sample with these values, and with another name for the Secret if one is given."""
    documents: list[dict[str, Any]] = list(yaml.safe_load_all(SAMPLE.read_text().replace(SECRET, name)))
    secret = next(each for each in documents if each["kind"] == "Secret")
    secret["stringData"] = dict(values)
    secret["metadata"]["annotations"] = {HOSTS_ANNOTATION: "127.0.0.1"}  # where the stores of demo and tests are
    return documents
