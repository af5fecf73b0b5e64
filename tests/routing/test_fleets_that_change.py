"""Whatever happens to a fleet: what every policy must keep to, against a look at all pods."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_scheduler.routing import (
    Endpoint,
    EndpointState,
    EngineLoad,
    Holding,
    HoldingState,
    Index,
    NotLoaded,
    Picked,
    RoutingRequest,
    Rules,
    pick,
)
from tests.routing.fleets import POLICY_NAMES

ADAPTERS = ("a", "b", "c", "d")


def random_endpoint(rng: random.Random, pod: str, now: float) -> Endpoint:
    holdings = tuple(
        Holding(adapter, f"{adapter}--v{rng.randrange(2)}", rng.choice(list(HoldingState)))
        for adapter in rng.sample(ADAPTERS, rng.randrange(4))
    )
    state = rng.choice([EndpointState.SERVING] * 4 + [EndpointState.DRAINING, EndpointState.UNREADY])
    return Endpoint(
        pod, pod, rng.choice(["llama", "llama", "mistral"]), holdings, state, rng.randrange(5), rng.randrange(3),
        rng.randrange(2), random_load(rng, now) if rng.random() < 0.3 else None,
    )  # fmt: skip


def random_load(rng: random.Random, now: float) -> EngineLoad:
    def names() -> frozenset[str]:
        return frozenset(f"{adapter}--v{rng.randrange(2)}" for adapter in rng.sample(ADAPTERS, rng.randrange(3)))

    counts = [rng.choice([None, 0, 1, 8]) for _ in range(2)]
    return EngineLoad(
        now - rng.random() * 20, *counts, rng.choice([None, 0.5]), names(), names(), rng.choice([None, 0, 2])
    )


def random_ask(rng: random.Random) -> RoutingRequest:
    some = frozenset(f"p{n}" for n in range(8) if rng.random() < 0.5)
    return RoutingRequest(
        tuple(rng.sample(ADAPTERS, rng.choice([0, 1, 1, 1, 2, 3]))), rng.choice(["llama", "mistral"]),
        rng.random() < 0.5, frozenset(rng.sample(ADAPTERS, 1)),
        some if rng.random() < 0.2 else frozenset(), some if rng.random() < 0.2 else None,
    )  # fmt: skip


def check(index: Index, fleet: dict[str, Endpoint], ask: RoutingRequest, now: float, rng: random.Random) -> None:
    may = [
        one for one in fleet.values()
        if one.state is EndpointState.SERVING and one.pod not in ask.avoid
        and (ask.among is None or one.pod in ask.among)
    ]  # fmt: skip
    warm = {one.pod for one in may if set(ask.adapters) <= serving(one)}
    for policy in POLICY_NAMES:
        seed = rng.random()
        answer = pick(index, ask, now=now, chance=random.Random(seed), rules=Rules(policy))
        assert answer == pick(index, ask, now=now, chance=random.Random(seed), rules=Rules(policy))
        if isinstance(answer, Picked):
            endpoint = answer.endpoint
            assert endpoint == fleet[endpoint.pod]
            assert endpoint in may
            assert set(answer.names) == set(ask.adapters) & serving(endpoint)
            assert set(answer.missing) == set(ask.adapters) - serving(endpoint)
            assert answer.warm or ((ask.may_load and len(answer.missing) <= endpoint.room) or on_its_way(endpoint, ask))
            assert answer.spill not in warm
        elif isinstance(answer, NotLoaded):
            assert not warm or not ask.adapters
            assert not set(answer.loadable) - {one.pod for one in may if one.room}
            assert not set(answer.loading) & set(answer.loadable)


def serving(endpoint: Endpoint) -> set[str]:
    return {holding.adapter for holding in endpoint.holdings if holding.state is HoldingState.SERVING}


def on_its_way(endpoint: Endpoint, ask: RoutingRequest) -> bool:
    return any(one.adapter in ask.adapters and one.state is HoldingState.LOADING for one in endpoint.holdings)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 40))
def test_a_pick_is_never_wrong_and_the_same_for_the_same_draws(seed: int, steps: int) -> None:
    """Adapters of one base model only: which names another base model's pods hold is up to whoever names them."""
    rng, now = random.Random(seed), 0.0
    index, fleet = Index(), dict[str, Endpoint]()
    for adapter in ADAPTERS:
        index.know(adapter, "llama")
    for _ in range(steps):
        now += rng.random() * 4
        pod = f"p{rng.randrange(8)}"
        match rng.randrange(5):
            case 0 | 1:
                endpoint = random_endpoint(rng, pod, now)
                if endpoint.base_model == "mistral":
                    endpoint = Endpoint(pod, pod, "mistral")
                fleet[pod] = endpoint
                index.put(endpoint, now=now)
            case 2:
                fleet.pop(pod, None)
                index.remove(pod, now=now)
            case 3:
                index.observe(pod, random_load(rng, now), now=now)
            case _:
                index.sent(pod, now=now)
        check(index, fleet, random_ask(rng), now, rng)


@pytest.mark.parametrize("policy", POLICY_NAMES)
def test_nothing_is_left_of_pods_that_are_gone(policy: str) -> None:
    rng = random.Random(policy)
    index = Index()
    for pod in range(8):
        index.put(random_endpoint(rng, f"p{pod}", 0.0), now=0.0)
    for pod in range(8):
        index.remove(f"p{pod}", now=1.0)
    left = [getattr(index, name) for name in ("_slots", "_holders", "_loading", "_running", "_waiting")]
    assert left == [{}] * 5
