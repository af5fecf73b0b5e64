"""Sizes of versions that only the adapter volume knows of."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from lora_operator.cache.volume import VolumeStore
from lora_operator.delivery import sizes as module
from lora_operator.delivery.sizes import Sizes

VERSION = "1" * 16


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def read(sizes: Sizes, name: str) -> tuple[int, int] | None:
    """What is known once everything that is asked for has been read."""
    sizes.of(name, VERSION)
    await asyncio.gather(*sizes._reading.values())
    return sizes.of(name, VERSION)


def put(root: Path, name: str, config: object) -> None:
    folder = root / name / VERSION
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes(b"12345")


async def test_a_size_that_could_not_be_read_is_read_again_after_a_while(tmp_path: Path) -> None:
    clock, told = Clock(), []
    sizes = Sizes(VolumeStore(tmp_path), lambda: told.append("changed"), clock=clock)
    assert await read(sizes, "late") is None
    put(tmp_path, "late", {"r": 8, "rank_pattern": {"q": 16}})
    assert await read(sizes, "late") is None  # not in each round
    clock.now += module.AGAIN_SECONDS
    assert await read(sizes, "late") == (5, 16)
    assert told == ["changed"]
    await sizes.stop()


@pytest.mark.parametrize("config", [{}, {"r": -1}, {"r": 0}, {"r": 8, "rank_pattern": {"q": -2}}, {"r": "x"}, [], None])
async def test_a_config_that_tells_no_rank_is_an_unknown_size(tmp_path: Path, config: object) -> None:
    put(tmp_path, "odd", config)
    assert await read(Sizes(VolumeStore(tmp_path)), "odd") is None


@pytest.mark.parametrize("name", ["..", "a/b", "", "x" * 300])
async def test_a_name_that_no_version_has_is_an_unknown_size(tmp_path: Path, name: str) -> None:
    assert await read(Sizes(VolumeStore(tmp_path)), name) is None
