"""The named policies, one file each: the order in which scorers decide among pods that are all allowed.

POLICIES maps the name that `Policy.name` gives to that order. CLOSE has what decides among pods of about the same load,
for the policies that go by load first and so need not ask all pods.
"""

from collections.abc import Mapping
from types import MappingProxyType

from lora_scheduler.policies import balanced, binpack, spread
from lora_scheduler.scorers import Scorer

POLICIES: Mapping[str, tuple[Scorer, ...]] = MappingProxyType(
    {"balanced": balanced.SCORERS, "binpack": binpack.SCORERS, "spread": spread.SCORERS}
)

PACKING = frozenset({"binpack"})  # policies that are after full pods: they move nothing for the sake of even load

CLOSE: Mapping[str, tuple[Scorer, ...]] = MappingProxyType({"balanced": balanced.CLOSE})
