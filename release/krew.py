"""`python -m release.krew --url …/download/v0.1.0` writes dist/lora.yaml, krew's manifest of the archives in dist."""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path
from typing import Any

import yaml

from release.plugin import COMMANDS, PLATFORMS, RESULT
from release.versions import versions

TEMPLATE = Path(__file__).with_suffix(".yaml")


def manifest(archives: Path, url: str, home_page: str, version: str) -> dict[str, Any]:
    """The manifest for the archives of this version in a folder.

    Raises:
        FileNotFoundError: one is missing.
    """
    told: dict[str, Any] = yaml.safe_load(TEMPLATE.read_text())
    told["spec"] = {"version": f"v{version}", "homepage": home_page, **told["spec"], "platforms": []}
    for platform in PLATFORMS:
        system, architecture = platform.split("-")
        archive = archives / f"kubectl-lora-{version}-{platform}.tar.gz"
        told["spec"]["platforms"].append({
            "selector": {"matchLabels": {"os": system, "arch": architecture}},
            "uri": f"{url.rstrip('/')}/{archive.name}",
            "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
            "bin": COMMANDS[0],
        })  # fmt: skip
    return told


def main() -> int:
    parser = argparse.ArgumentParser(prog="release.krew", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", required=True, help="the folder from which the archives are downloaded")
    parser.add_argument("--home-page", default="", help="the project's home page")
    parser.add_argument("--archives", type=Path, default=RESULT, help="folder of the archives (default: dist)")
    arguments = parser.parse_args()
    output = arguments.archives / "lora.yaml"
    try:
        told = manifest(arguments.archives, arguments.url, arguments.home_page, versions()["pyproject.toml"])
    except FileNotFoundError as error:
        sys.stderr.write(f"{error.filename} is missing: make release-plugin\n")
        return 1
    output.write_text(yaml.safe_dump(told, sort_keys=False, width=120))
    print(output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
