"""A trial: what a version in hold does beside the champion, a shadow or a canary, and when it is withdrawn by itself."""

import hashlib
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tasks.admission import Admitted
from tasks.services import Rollout

RECENT = 1000  # requests whose times are kept
MARGIN = 0.005  # seconds; less is not worth a withdrawal
QUANTILE = 0.9


@dataclass
class Tally:
    """Requests that one version was asked, how many it failed, and the seconds that the newest took: of the processor in a shadow's trial."""

    requests: int = 0
    failed: int = 0
    shadowed: bool = False
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))

    def count(self, seconds: float) -> None:
        """Count a request that was answered."""
        self.requests += 1
        self.seconds.append(seconds)

    def count_failed(self) -> None:
        """Count a request that was not."""
        self.requests += 1
        self.failed += 1

    @property
    def error_rate(self) -> float:
        """The share of requests that failed."""
        return self.failed / self.requests if self.requests else 0.0


def objection(rollout: Rollout, champion: Tally, held: Tally) -> str | None:
    """Say why a version is to be withdrawn by what was counted, or None.

    >>> objection(Rollout(min_requests=2), Tally(requests=5), Tally(requests=4, failed=2))
    "50.0 % of its 4 requests failed, of the champion's 0.0 %; 1.0 % more are allowed"
    """
    if held.requests < rollout.min_requests:
        return None
    if held.error_rate > champion.error_rate + rollout.max_error_rate:
        return (
            f"{held.error_rate:.1%} of its {held.requests} requests failed, of the champion's {champion.error_rate:.1%}; "
            f"{rollout.max_error_rate:.1%} more are allowed"
        ).replace("%", " %")
    if min(len(held.seconds), len(champion.seconds)) < rollout.min_requests:
        return None
    theirs, ours = _high(held.seconds), _high(champion.seconds)
    if theirs > max(rollout.max_slowdown * ours, ours + MARGIN):
        return f"it takes {theirs * 1e3:.1f} ms, the champion {ours * 1e3:.1f} ms (90th percentile); {rollout.max_slowdown:g} times as long is allowed"
    return None


def _high(seconds: Sequence[float]) -> float:
    return float(np.quantile(list(seconds), QUANTILE))


def chosen(rollout: Rollout, pipeline: str, cycle: int, rows: Admitted) -> bool:
    """Tell whether a canary answers a request; the same on every server where requests are of an entity."""
    if rollout.mode != "canary":
        return False
    if not rollout.sticky:
        return random.random() < rollout.share  # noqa: S311
    entities = {tuple(str(rows[name][place]) for name in rollout.sticky) for place in range(len(rows[rollout.sticky[0]]))}
    return len(entities) == 1 and _fraction(f"{pipeline} {cycle} {entities.pop()}") < rollout.share


def _fraction(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
