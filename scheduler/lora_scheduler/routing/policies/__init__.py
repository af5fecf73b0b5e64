"""The named routing policies, one file each: given a question, the choice, or None where nobody can be the answer.

POLICIES maps the name that `Rules.policy` gives to the function.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from lora_scheduler.routing.policies import affinity, chance, least, threshold, weighted
from lora_scheduler.routing.question import Choice, Question

RoutingPolicy = Callable[[Question], Choice | None]

POLICIES: Mapping[str, RoutingPolicy] = MappingProxyType(
    {
        "lora-affinity": affinity.choose,
        "threshold": threshold.choose,
        "weighted": weighted.choose,
        "least-request": least.choose,
        "random": chance.choose,
    }
)
