"""Plays chats through a fleet of engines in virtual time; the next turn comes after the answer to the last."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.figures import percentile
from bench.gateway.chats import Shape, chats, shares
from bench.gateway.contenders import BLIND, Router, Way
from bench.gateway.engine import Costs, Engine, Turn

WARM_UP = 0.3  # of the time: what comes then is not counted
SCRAPE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """`resident`: the share of turns whose adapter was where they came to. `cached`: of the prompts' blocks, the share
    that was in the cache. `imbalance`: most ÷ mean turns of a pod."""

    way: str
    turns: int
    resident: float
    cached: float
    imbalance: float
    ttft_mean: float
    ttft_p50: float
    ttft_p99: float


def placed(shape: Shape, pods: int, costs: Costs) -> dict[int, list[int]]:
    """Twice as many replicas as demand takes, and at least two where there is room, each where least is expected."""
    expected, count = [0.0] * pods, [0] * pods
    found: dict[int, list[int]] = {}
    for adapter, share in enumerate(shares(shape)):
        replicas = min(pods, max(2, math.ceil(share * pods * 2)))
        roomy = [pod for pod in range(pods) if count[pod] < costs.adapters_held]
        found[adapter] = sorted(roomy, key=lambda pod: (expected[pod], count[pod]))[:replicas]
        for pod in found[adapter]:
            expected[pod] += share / len(found[adapter])
            count[pod] += 1
    return found


def replay(name: str, way: Way, shape: Shape, pods: int = 16, costs: Costs | None = None) -> Outcome:
    costs = costs or Costs()
    engines = [Engine(costs) for _ in range(pods)]
    where: Mapping[int, Sequence[int]] = {} if name in BLIND else placed(shape, pods, costs)
    for adapter, holders in where.items():
        for pod in holders:
            engines[pod].held[adapter] = None
    router = Router(engines, where)
    talks = chats(shape)
    events: list[tuple[float, int, int]] = [(talk.at, 0, talk.number) for talk in talks]  # (when, what, of which)
    heapq.heapify(events)
    counted: list[Turn] = []
    resident = scraped = 0.0
    sent = [0] * pods
    while events:
        now, what, which = heapq.heappop(events)
        if now > shape.seconds:
            break
        while scraped <= now:
            router.scrape(scraped)
            scraped += SCRAPE_SECONDS
        if what:
            engine = engines[which]
            for turn in engine.end(now):
                talk = talks[turn.chat]
                talk.say(turn.answer)
                *_, think = talk.turns.pop(0)
                if talk.turns:
                    heapq.heappush(events, (now + think, 0, talk.number))
        else:
            talk = talks[which]
            said, answer, _ = talk.turns[0]
            talk.say(said)
            turn = Turn(now, talk.adapter, [*talk.blocks], talk.tokens, answer, which)
            pod = router.send(way, turn)
            engine = engines[pod]
            if now >= shape.seconds * WARM_UP:
                counted.append(turn)
                resident += talk.adapter in engine.held
                sent[pod] += 1
            engine.take(turn)
            if engine.busy_until is not None:
                continue
            which = pod
        ends = engine.begin(now)
        if ends is not None:
            heapq.heappush(events, (ends, 1, which))
    # who has waited until now is not left out: that would favour those that let wait for longest
    seconds = [(turn.first_token_at or shape.seconds) - turn.at for turn in counted]
    done = [turn for turn in counted if turn.first_token_at]
    return Outcome(
        name, len(counted), resident / len(counted),
        sum(turn.cached for turn in done) / max(1, sum(len(turn.blocks) for turn in done)),
        max(sent) * pods / sum(sent), sum(seconds) / len(seconds), percentile(seconds, 50), percentile(seconds, 99),
    )  # fmt: skip
