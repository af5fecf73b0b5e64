"""What goes wrong for a person at a terminal: one sentence that names the thing and what to do."""

from __future__ import annotations

from collections.abc import Iterable

FAILED, BAD_COMMAND_LINE, UNPLACED = 1, 2, 3  # exit statuses beside 0


class PluginError(Exception):
    """The message is shown after "error: "; `status` is the exit status."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


def unknown(
    kind: str, name: str, where: str, known: Iterable[str], otherwise: str = "`kubectl lora get -A` lists all"
) -> PluginError:
    """There is no such thing; names that are like it are shown, or what to do `otherwise`."""
    from difflib import get_close_matches

    near = get_close_matches(name, sorted(set(known)), 3)
    hint = f"did you mean {', '.join(near)}?" if near else otherwise
    return PluginError(f"there is no {kind} {name} {where}; {hint}")
