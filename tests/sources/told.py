"""All that somebody may get to see of errors: what they say, and what is behind them."""

from __future__ import annotations

import traceback
from collections.abc import Iterable


def all_texts(errors: Iterable[BaseException]) -> list[str]:
    """str, repr and traceback of each error, and of those that it came from."""
    return [
        text
        for error in errors
        for each in (error, *_behind(error))
        for text in (str(each), repr(each), "".join(traceback.format_exception(each)))
    ]


def _behind(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    pending = [error.__cause__, error.__context__]
    while pending:
        following = pending.pop()
        if following is not None and following not in found:
            found.append(following)
            pending += [following.__cause__, following.__context__]
    return found
