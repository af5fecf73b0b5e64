"""Writes requirements/*.txt: what is installed into the image, and for `kubectl lora`, with the hashes of every file.

`python -m image.locks` after a change of pyproject.toml or constraints.txt. It needs uv, as constraints.txt does. The
versions are those of constraints.txt, so that the image holds what the tests ran with.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "image" / "requirements"
# what `docker build --build-arg EXTRAS="..."` may name, as in pyproject.toml
EXTRAS = ("envoy", "library", "otel")
SBOM_TOOL = "cyclonedx-bom[validation]>=7"
COMPILE = ("pip", "compile", "--quiet", "--generate-hashes", "--universal", "--python-version=3.11", "--no-annotate")


def locks(root: Path = ROOT) -> dict[str, tuple[list[str], list[str]]]:
    """By the name of each file: arguments to uv, and requirements that it reads from its input."""
    system = tomllib.loads((root / "pyproject.toml").read_text())["build-system"]["requires"]
    plugin = ["pyproject.toml", "--constraints=constraints.txt"]
    project = [*plugin, "--extra=sources"]
    return {
        "plugin": (plugin, []),
        "runtime": (project, []),
        **{extra: ([*project, f"--extra={extra}"], []) for extra in EXTRAS},
        "build": (["-", "--constraints=constraints.txt"], system),
        "sbom": (["-"], [SBOM_TOOL]),
    }


def main() -> int:
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        sys.stderr.write("uv is not on the PATH, and it writes these files: pip install uv\n")
        return 1
    for name, (arguments, requirements) in locks().items():
        file = FOLDER / f"{name}.txt"
        command = [uv, *COMPILE, "--no-header", f"--output-file={file}", *arguments]
        done = subprocess.run(command, cwd=ROOT, input="\n".join(requirements), text=True)
        if done.returncode != 0:
            sys.stderr.write(f"{file} was not written: uv ended with {done.returncode}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
