"""`python -m image.sbom` writes what is in the image, as CycloneDX, to dist/sbom.cdx.json.

It installs the locked packages, as the Dockerfile does, into an environment of their own and has cyclonedx-bom list it:
names, versions, licences, and who needs whom. The result is checked against the schema of CycloneDX.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from pathlib import Path

from image.locks import EXTRAS, FOLDER, ROOT

DIRECTORY = ROOT / ".run" / "sbom"
RESULT = ROOT / "dist" / "sbom.cdx.json"


def main() -> int:
    parser = argparse.ArgumentParser(prog="image.sbom", description="Lists what is in the image, as CycloneDX.")
    parser.add_argument("--extras", default="", help="optional parts of the image, separated by spaces")
    parser.add_argument("--output", type=Path, default=RESULT, help="the file to write (default: %(default)s)")
    arguments = parser.parse_args()
    extras = arguments.extras.split()
    if unknown := sorted(set(extras) - set(EXTRAS)):
        sys.stderr.write(f"no such extras: {', '.join(unknown)}; there are {', '.join(EXTRAS)}\n")
        return 2
    try:
        tool = environment(DIRECTORY / "tool", "sbom")
        listed = environment(DIRECTORY / "contents", "runtime", *extras)
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        program, project = str(tool.with_name("cyclonedx-py")), str(ROOT / "pyproject.toml")
        told = ["--pyproject", project, "--output-reproducible", "--validate", "--output-file", str(arguments.output)]
        subprocess.run([program, "environment", str(listed), *told], check=True)
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    print(arguments.output)
    return 0


def environment(folder: Path, *locks: str) -> Path:
    """A fresh virtual environment with these locked packages alone; returns its Python.

    Raises:
        subprocess.CalledProcessError: pip could not install them; it has said why.
    """
    venv.create(folder, clear=True, with_pip=False)
    python = folder / "bin" / "python"
    told = ["--quiet", "--no-compile", "--require-hashes", *(f"--requirement={FOLDER / lock}.txt" for lock in locks)]
    command = [sys.executable, "-m", "pip", f"--python={python}", "install", *told]
    subprocess.run(command, check=True)
    return python


if __name__ == "__main__":
    sys.exit(main())
