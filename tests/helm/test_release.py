"""Charts as a release packages them."""

from __future__ import annotations

from pathlib import Path

from release.charts import package


def test_both_are_packaged_and_install_without_a_value_for_the_image(tmp_path: Path) -> None:
    made = package("registry.example.com/team", "https://example.com/it", tmp_path)
    assert [path.name.rpartition("-")[0] for path in made] == ["lora-operator", "vllm-lora"]
    assert all(path.stat().st_size for path in made)
