"""Chats of several turns with many adapters: who says how much when. Generated, from a seed."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field

BLOCK_TOKENS = 64  # of the index, the engine's cache and the lengths here


@dataclass(frozen=True, slots=True)
class Shape:
    """Zipf demand. Lengths are in tokens, and means: of an adapter's instructions, which all its chats begin with, of
    what a user says in a turn, of an answer. `think_seconds`: from an answer's end to the next turn."""

    adapters: int = 1000
    zipf: float = 0.9
    chats_per_second: float = 12.0
    seconds: float = 300.0
    turns: float = 5.0
    instructions: float = 600.0
    said: float = 120.0
    answer: float = 200.0
    think_seconds: float = 20.0
    seed: int = 0


@dataclass(slots=True)
class Chat:
    """`blocks`: of all that was said, as hashes of whole blocks. `turns`: (said, answered, thought) of those left."""

    number: int
    at: float
    adapter: int
    tokens: int
    turns: list[tuple[int, int, float]]
    blocks: list[int] = field(default_factory=list)

    def say(self, tokens: int) -> None:
        """The next tokens of the chat; whole blocks of its own come behind those of the instructions."""
        self.tokens += tokens
        for place in range(len(self.blocks), self.tokens // BLOCK_TOKENS):
            self.blocks.append(hash((self.number, place)))


def shares(shape: Shape) -> list[float]:
    """Of each adapter in the demand, the most popular first."""
    weights = [(place + 1) ** -shape.zipf for place in range(shape.adapters)]
    return [weight / sum(weights) for weight in weights]


def chats(shape: Shape) -> list[Chat]:
    """In order of time."""
    rng = random.Random(f"{shape}")
    cumulated = list(itertools.accumulate(shares(shape)))
    told = [max(BLOCK_TOKENS, int(rng.expovariate(1 / shape.instructions))) for _ in range(shape.adapters)]
    made: list[Chat] = []
    at = 0.0
    while (at := at + rng.expovariate(shape.chats_per_second)) < shape.seconds:
        (adapter,) = rng.choices(range(shape.adapters), cum_weights=cumulated)
        turns: list[tuple[int, int, float]] = []
        while not turns or rng.random() < 1 - 1 / shape.turns:
            said, answered = (1 + int(rng.expovariate(1 / mean)) for mean in (shape.said, shape.answer))
            turns.append((said, answered, rng.expovariate(1 / shape.think_seconds)))
        shared = [hash((-1 - adapter, place)) for place in range(told[adapter] // BLOCK_TOKENS)]
        made.append(Chat(len(made), at, adapter, told[adapter], turns, shared))
    return made
