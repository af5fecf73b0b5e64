"""Writes the CRDs that are checked in: `python -m lora_operator.tools.crdgen crds/PLURAL.GROUP.yaml`.

The file's name says which (`make crds` writes all)."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from lora_operator.api import v1alpha1 as api
from lora_operator.api.crd import PLURALS, definition, file_name
from lora_operator.tools.generated import write_or_check

HEADER = "# Generated from operator/lora_operator/api by `make crds`: change the models, not this file.\n"


def render(plural: str = api.PLURAL) -> str:
    """The file's text, always the same for the same models."""

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    return HEADER + yaml.dump(definition(plural), Dumper=Dumper, sort_keys=False, width=120, allow_unicode=True)


def main(arguments: list[str]) -> int:
    """See `write_or_check`."""
    named = [plural for plural in PLURALS if Path(arguments[-1]).name == file_name(plural)] if arguments else []
    return write_or_check(
        arguments, partial(render, *named), module="lora_operator.tools.crdgen", text=__doc__ or "", source="models",
        target="crds",
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
