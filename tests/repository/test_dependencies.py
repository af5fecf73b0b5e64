"""What is installed together has to fit together."""

from __future__ import annotations

from collections import defaultdict
from importlib.metadata import distributions


def test_no_two_packages_bring_the_same_module() -> None:
    """pip lets the one that comes last win, whichever that is."""
    owners: dict[str, set[str]] = defaultdict(set)
    for package in distributions():
        for file in package.files or ():
            if file.suffix == ".py" and ".." not in file.parts:
                owners[str(file)].add(package.name)
    assert {file: names for file, names in owners.items() if len(names) > 1} == {}
