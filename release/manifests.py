"""`python -m release.manifests --registry ghcr.io/owner` writes dist/install.yaml: CRDs and manifests/install.

The image in it is that of the registry, so that `kubectl apply --server-side -f` of the file is a whole installation.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from release.versions import ROOT, versions

RESULT = ROOT / "dist" / "install.yaml"
IMAGE = re.compile(r"^( +image: )lora-operator:(\S+)(  # .*)?$", re.MULTILINE)
FOLDERS = ("crds", "manifests/install")
NAMESPACE = "namespace.yaml"  # first, as others are in it


def one_file(registry: str, version: str) -> str:
    """All of it, as documents of one YAML file. Raises ValueError where a manifest's image is of another version."""
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.yaml"))]
    files.sort(key=lambda path: path.name != NAMESPACE)
    text = "---\n".join(path.read_text().strip() + "\n" for path in files)
    if other := {found.group(2) for found in IMAGE.finditer(text)} - {version}:
        raise ValueError(f"manifests/install has images of {', '.join(sorted(other))}, not {version}: make manifests")
    return IMAGE.sub(rf"\g<1>{registry}/lora-operator:\g<2>", text)


def main() -> int:
    parser = argparse.ArgumentParser(prog="release.manifests", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--registry", required=True, help="where the image is pushed, such as ghcr.io/owner")
    parser.add_argument("--output", type=Path, default=RESULT, help="file (default: dist/install.yaml)")
    arguments = parser.parse_args()
    try:
        text = one_file(arguments.registry.lower(), versions()["pyproject.toml"])
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text)
    print(arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
