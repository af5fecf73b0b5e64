"""`python -m e2e.vllm_cpu install|run|test|corpus --release 0.32.0 [--frontend rust]`.

install: make the environment and the model, where they are not there yet.
run:     serve the tiny model with LoRA on 127.0.0.1 until interrupted; further arguments go to vLLM.
test:    run the contract suite against that release; further arguments go to pytest.
corpus:  prove what inspection says of strangers' adapters on that release; further arguments go to pytest.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from e2e.contract.case import Server as Kind
from e2e.contract.flavours import ARGUMENTS, environment_of
from e2e.contract.frontend import Frontend

from .install import InstallFailed, install
from .places import REPOSITORY
from .server import environment, serve_command


def main(arguments: list[str]) -> int:
    """The process's exit code."""
    parser = argparse.ArgumentParser("python -m e2e.vllm_cpu", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("what", choices=("install", "run", "test", "corpus"))
    parser.add_argument("--release", default="0.32.0")
    parser.add_argument("--frontend", type=Frontend, choices=list(Frontend), default=Frontend.PYTHON)
    chosen, further = parser.parse_known_args(arguments)
    try:
        interpreter = install(chosen.release)
    except InstallFailed as failed:
        print(f"vllm {chosen.release}: {failed}", file=sys.stderr)
        return 1
    if chosen.what == "install":
        print(f"vllm {chosen.release}: ready, {interpreter}")
        return 0
    if chosen.what == "run":
        line = serve_command(chosen.release, [*ARGUMENTS[Kind.USUAL], "--host", "127.0.0.1", *further])
        os.execve(line[0], line, environment(chosen.release, environment_of(Kind.USUAL, chosen.frontend)))
    suite = str(REPOSITORY / "e2e" / "vllm_cpu" / f"test_{'corpus' if chosen.what == 'corpus' else 'contract'}.py")
    line = [sys.executable, "-m", "pytest", suite, "-o", "timeout=600", *further]
    env = {
        **os.environ,
        "LORA_OPERATOR_VLLM_RELEASE": chosen.release,
        "LORA_OPERATOR_VLLM_FRONTEND": chosen.frontend,
    }
    return subprocess.run(line, cwd=REPOSITORY, env=env).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
