"""Nothing that a pod may hold is an error."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lora_operator.informers.pod_description import PodDefaults, PodDescription, describe
from tests.observe.pods import GROUP, a_pod

DEFAULTS = PodDefaults()

WORDS = st.sampled_from(
    ["vllm", "serve", "sh", "-c", "--max-loras", "--port=", "--api-key", "$(A)", "$A", "'", '"', ";", "&&", "\\\n",
     "$(", "`x`", "${A:-$B}", "--", "-m", "A=1", "export", "--served_model_name", "4", "--enable-lora",
     "\ue000A\ue001", "2>&1", "#"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
TEXTS = st.lists(WORDS | st.text(max_size=5), max_size=8).map(" ".join)
LISTS = st.lists(WORDS | TEXTS | st.text(max_size=8), max_size=8)
ENV = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from("ABC"), "value": TEXTS | st.just("$(A)$(B)$(C)") | JSON}), max_size=6
)
KEYS = [
    f"{GROUP}/{name}"
    for name in ("port", "max-loras", "lora-memory", "lora-features", "adapter-root", "base-model", "max-cpu-loras")
]


@settings(suppress_health_check=[HealthCheck.too_slow])  # a machine may be busy
@given(
    command=LISTS,
    args=LISTS,
    env=ENV | JSON,
    annotations=st.dictionaries(st.sampled_from(KEYS), st.text() | JSON) | JSON,
)
def test_no_container_or_annotation_is_an_error(
    command: object, args: object, env: object, annotations: object
) -> None:
    pod = a_pod()
    pod["spec"]["containers"][0] |= {"command": command, "args": args, "env": env}
    pod["metadata"]["annotations"] = annotations
    said = describe(pod, DEFAULTS)
    assert said.max_loras >= 1 and 1 <= said.port <= 65535 and said.adapter_root.startswith("/")
    assert said.problems or said.max_cpu_loras >= said.max_loras
    assert all(problem.isprintable() and len(problem) < 500 for problem in said.problems)


SPEC = ["containers", "initContainers", "nodeName", "readinessGates"]
STATUS = ["phase", "podIP", "conditions", "containerStatuses", "initContainerStatuses"]


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "metadata": st.dictionaries(st.sampled_from(["name", "uid", "labels", "annotations"]), JSON) | JSON,
            "spec": st.dictionaries(st.sampled_from(SPEC), JSON) | JSON,
            "status": st.dictionaries(st.sampled_from(STATUS), JSON) | JSON,
        },
    )
)
def test_no_pod_is_an_error(pod: dict[str, Any]) -> None:
    assert isinstance(describe(pod, DEFAULTS), PodDescription)
