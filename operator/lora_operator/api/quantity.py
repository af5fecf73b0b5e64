"""Kubernetes quantities of memory ("2Gi", "500M", 1073741824) as bytes."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal

# The part of the grammar of k8s.io/apimachinery/pkg/api/resource that makes sense for memory: no sign, and no
# fractions of a byte (n, u, m). The exponent is bounded so that no input makes a number of a million digits.
PATTERN = r"([0-9]{1,19}(\.[0-9]{1,9})?)(Ki|Mi|Gi|Ti|Pi|Ei|k|M|G|T|P|E|[eE][0-9]{1,2})?"

_FACTORS = {
    "": 1,
    **{suffix: 1000**power for power, suffix in enumerate("kMGTPE", start=1)},
    **{f"{suffix}i": 1024**power for power, suffix in enumerate("KMGTPE", start=1)},
}


def parse_quantity(quantity: int | str) -> int:
    """The number of bytes, rounded up to a whole one as Kubernetes does.

    Raises ValueError for what is not a quantity of memory.
    """
    match = re.fullmatch(PATTERN, str(quantity))
    if match is None:
        raise ValueError(
            f'memory "{quantity}" is not a quantity: write a number of bytes or, for example, 512Mi or 2Gi'
        )
    number, _, suffix = match.groups(default="")
    factor = _FACTORS[suffix] if suffix in _FACTORS else 10 ** int(suffix[1:])
    return int((Decimal(number) * factor).to_integral_value(rounding=ROUND_CEILING))
