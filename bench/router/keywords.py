"""Selection by keywords among many adapters, whose words are made up."""

from __future__ import annotations

import random
import string
import time

from bench.figures import Figure
from lora_scheduler.routing import Catalogue, Topic

ADAPTERS, WORDS, TEXTS = 10_000, 20_000, 50
SHORT, LONG = 30, 2_000  # words


def selections() -> list[Figure]:
    chance = random.Random(1)
    words = ["".join(chance.choices(string.ascii_lowercase, k=chance.randrange(3, 10))) for _ in range(WORDS)]

    def keywords() -> tuple[str, ...]:
        one, two, three, four, five = chance.choices(words, k=5)
        return one, f"{two} {three}", f"{four[:4]}*", f"*{five[-4:]}"

    topics = [Topic(f"a{number}", keywords()) for number in range(ADAPTERS)]
    started = time.process_time()
    catalogue = Catalogue(topics)
    made = time.process_time() - started
    size = f"{ADAPTERS} adapters with 4 keywords each"
    return [
        Figure(f"keywords of {size} arranged", (made,), "s", "", note="after a change of one, in a thread"),
        *(
            Figure(f"adapter by keywords, text of {count} words", _times(catalogue, words, count, chance), "ms", "")
            for count in (SHORT, LONG)
        ),
    ]


def _times(catalogue: Catalogue, words: list[str], count: int, chance: random.Random) -> tuple[float, ...]:
    """Processor time in milliseconds, of texts that differ."""
    values = []
    for _ in range(TEXTS):
        text = " ".join(chance.choices(words, k=count))
        started = time.process_time()
        catalogue.select(text)
        values.append(1000 * (time.process_time() - started))
    return tuple(values)
