"""A behaviour: something happens to the installation while users ask, and what became of them goes into the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from e2e.cluster.behaviours.asking import Outcome, asking
from e2e.cluster.behaviours.installation import WAYS, Installation
from e2e.cluster.sample import ADAPTER, TEAM
from e2e.world.rest import Json

Table = dict[str, dict[str, Outcome]]


@contextmanager
def users(
    installed: Installation, table: Table, behaviour: str, ways: Mapping[str, str] = WAYS
) -> Iterator[dict[str, Outcome]]:
    """Users who ask all the while, and whose outcomes come into the table. None may hear that there is no adapter."""
    installed.wait_pods(2)
    installed.wait_adapter(ADAPTER)
    with asking(installed.kube, TEAM, ADAPTER, ways) as outcomes:
        yield outcomes
    table[behaviour] = outcomes
    for way, outcome in outcomes.items():
        assert outcome.answered.total() > 0, f"{behaviour}: nobody was answered by {way}: {outcome}"
        unknown = [why for why in outcome.failed if "404" in why]
        assert not unknown, f"{behaviour}: {way} led to pods without the adapter: {outcome}"


def container(pod: Json, name: str) -> Json:
    found: Json = next(one for one in pod["status"]["containerStatuses"] if one["name"] == name)
    return found
