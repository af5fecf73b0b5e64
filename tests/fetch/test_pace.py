"""How fast, how many at a time, and when again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from lora_operator.fetch.limits import Limits
from lora_operator.fetch.pace import BURST_SECONDS, Bandwidth, backoff_seconds, retry_after_seconds


class Clockwork(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer instead of waiting for it."""

    now = 1000.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.now = max(self.now, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def test_all_who_take_get_the_bandwidth_together_and_no_more() -> None:
    loop = Clockwork()

    async def take() -> None:
        bandwidth = Bandwidth(1000.0)

        async def one() -> None:
            for _ in range(10):
                await bandwidth.take(100)

        await asyncio.gather(one(), one(), one())

    loop.run_until_complete(take())
    loop.close()
    assert loop.now - 1000 == pytest.approx(3.0 - BURST_SECONDS)


async def test_no_bandwidth_is_no_limit() -> None:
    await Bandwidth(None).take(1 << 60)


def test_waits_twice_as_long_each_time_with_jitter_up_to_a_bound() -> None:
    limits = Limits(backoff_seconds=1, backoff_max_seconds=10)
    for failures, longest in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (60, 10)]:
        waits = {backoff_seconds(failures, None, limits) for _ in range(20)}
        assert longest / 2 <= min(waits) < max(waits) <= longest


def test_waits_at_least_as_long_as_the_server_asks() -> None:
    assert backoff_seconds(1, 7.0, Limits(backoff_seconds=1)) == 7


def test_reads_retry_after_in_seconds_and_as_a_date() -> None:
    assert retry_after_seconds("120") == 120
    soon = retry_after_seconds(format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True))
    assert soon is not None
    assert 80 < soon <= 90
    assert retry_after_seconds(format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)) == 0
    for nonsense in (None, "", "soon", "-5", "1.5", "٣", "Wed, 99 Foo"):
        assert retry_after_seconds(nonsense) is None
