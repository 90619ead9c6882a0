"""Waiting for something to happen, with a limit."""

import time
from collections.abc import Callable
from typing import Literal, TypeVar

T = TypeVar("T")


def until(look: Callable[[], T | Literal[False] | None], what: str = "it", patience: float = 30.0) -> T:
    """Look until there is something, and give it."""
    limit = time.monotonic() + patience
    while not (found := look()):
        assert time.monotonic() < limit, f"{what} did not happen within {patience:.0f} s"
        time.sleep(0.05)
    return found
