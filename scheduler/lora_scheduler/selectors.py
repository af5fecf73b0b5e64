"""Kubernetes label selectors, evaluated as the API server does."""

from __future__ import annotations

from collections.abc import Mapping

from lora_scheduler.model import Requirement, Selector

OPERATORS = frozenset({"In", "NotIn", "Exists", "DoesNotExist"})


def matches(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Whether a pod with these labels is selected: every label and every expression must hold."""
    return all(labels.get(key) == value for key, value in selector.match_labels) and all(
        _holds(requirement, labels) for requirement in selector.match_expressions
    )


def _holds(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value is not None and value in requirement.values
        case "NotIn":
            return value is None or value not in requirement.values  # an absent label is not in any set
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case unknown:
            raise ValueError(f"selector operator {unknown!r} does not exist; use one of {', '.join(sorted(OPERATORS))}")


def describe(selector: Selector) -> str:
    """The selector in kubectl's notation: `a=b,tier in (gold,silver),!legacy`."""
    return ",".join(
        [f"{key}={value}" for key, value in selector.match_labels]
        + [_describe(requirement) for requirement in selector.match_expressions]
    )


def _describe(requirement: Requirement) -> str:
    match requirement.operator:
        case "Exists":
            return requirement.key
        case "DoesNotExist":
            return f"!{requirement.key}"
        case "In":
            return f"{requirement.key} in ({','.join(requirement.values)})"
        case _:
            return f"{requirement.key} notin ({','.join(requirement.values)})"
