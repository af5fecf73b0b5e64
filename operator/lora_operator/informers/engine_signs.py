"""Whether a pod that nobody has labelled serves a model: gateways send such pods requests for base models.

Most programs have a first argument that could be a model's name (`controller`, `start`), so that alone is no sign.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lora_operator.informers.pod_description import PodDefaults, containers_of, describe
from lora_operator.informers.pod_limits import Naming

_MENTION = re.compile("vllm", re.IGNORECASE)
# vLLM's, for images and programs that are called otherwise
_OPTION = re.compile(
    r"--(served-model-name|max-model-len|max-num-seqs|gpu-memory-utilization|tensor-parallel-size|enable-lora)\b"
)


def serves_a_model(pod: Mapping[str, Any]) -> bool:
    """`pod` is Kubernetes JSON, which may be anything."""
    description = describe(pod, PodDefaults())
    if not description.base_models:
        return False
    return description.opted_in or description.named_by is Naming.ANNOTATION or _shows_vllm(pod)


def _shows_vllm(pod: Mapping[str, Any]) -> bool:
    for container in containers_of(pod["spec"]):
        words = [str(word) for part in ("command", "args") for word in container.get(part) or ()]
        told = [str(container.get("name")), str(container.get("image")), *words]
        if any(_MENTION.search(word) for word in told) or any(_OPTION.match(word) for word in words):
            return True
    return False
