"""`python -m image.proof` builds the image, looks through it and runs it; exit status 1 where something is wrong."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from image.proof.building import ROOT, Builder, Built, ProofError, missing
from image.proof.contents import faults, sizes
from image.proof.starting import run_scripts, start_all

DIRECTORY = ROOT / ".run" / "image"
LABELS = ("title", "description", "licenses", "version", "revision", "source")


def main() -> int:
    parser = argparse.ArgumentParser(prog="image.proof", description=__doc__)
    parser.add_argument("--extras", default="", help="build argument EXTRAS: optional parts, separated by spaces")
    arguments = parser.parse_args()
    if absent := missing():
        sys.stderr.write(f"{absent}\n")
        return 1
    builder = Builder(DIRECTORY)
    scratch = Path(tempfile.mkdtemp(prefix="image-proof-"))
    try:
        image = builder.build(arguments.extras)
        report = [*configuration(image), *contents(image), *run_scripts(image, scratch), *start_all(image, scratch)]
    except ProofError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        builder.close()
        shutil.rmtree(scratch, ignore_errors=True)
    print("\n".join(report))
    return 0


def configuration(image: Built) -> list[str]:
    """What the image says of itself.

    Raises:
        ProofError: Kubernetes could not tell that it is not root, or a label is missing.
    """
    if image.config.get("User") != "65532:65532":
        raise ProofError(f"USER is {image.config.get('User')!r}: set 65532:65532 in the Dockerfile")
    labels = image.config.get("Labels")
    names = set(labels) if isinstance(labels, dict) else set()
    absent = [name for name in LABELS if f"org.opencontainers.image.{name}" not in names]
    if absent:
        raise ProofError(f"labels missing in the Dockerfile: {', '.join(absent)}")
    return ["it runs as 65532:65532 and has its labels"]


def contents(image: Built) -> list[str]:
    """The table of sizes.

    Raises:
        ProofError: something is in the image that should not be.
    """
    if found := faults(image.root):
        raise ProofError("\n".join(found[:50]))
    rows = [f"{name:<40} {size / 2**20:7.1f} MiB" for name, size in sizes(image.root)]
    return ["nothing for building or installing, no shell, no setuid file, no file that others may write", *rows]


if __name__ == "__main__":
    sys.exit(main())
