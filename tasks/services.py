"""How a champion answers online, as a user declares it. Part of `tasks.spec`."""

from dataclasses import dataclass
from typing import Literal

from tasks.gates import positive, require


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """What a version that a cycle holds for approval does in the meantime.

    - `mode`: "shadow", it predicts every request beside the champion, is logged and never answered; or "canary", it answers `share` of them.
    - `sticky`: columns that name an entity; all requests of one entity are then answered by the same version, and those of several by the
      champion. Without them it is by request.
    - It is withdrawn by itself, after `min_requests`, if more than `max_error_rate` of its requests fail beyond the champion's own rate, or if it
      takes more than `max_slowdown` times as long as the champion, and 5 ms more (90th percentile; what a shadow waits is not counted); and at
      the first output that is not finite.
    """

    mode: Literal["shadow", "canary"] = "shadow"
    share: float = 0.1
    sticky: tuple[str, ...] = ()
    min_requests: int = 50
    max_error_rate: float = 0.01
    max_slowdown: float = 2.0

    def __post_init__(self) -> None:
        require(self.mode in ("shadow", "canary"), f"Rollout.mode is {self.mode!r}; expected 'shadow' or 'canary'.")
        require(0 < self.share < 1, f"Rollout.share is {self.share}; expected a share between 0 and 1, for example 0.1.")
        require(0 <= self.max_error_rate < 1, f"Rollout.max_error_rate is {self.max_error_rate}; expected 0 or more, and less than 1.")
        positive("Rollout", min_requests=self.min_requests, max_slowdown=self.max_slowdown)


@dataclass(frozen=True, kw_only=True)
class Serving:
    """How the champion answers requests; a server reads it when it starts.

    - `port`: where `ratchet up` serves it, on loopback; None: only `ratchet serve` does.
    - `workers`: processes that answer; each holds the model.
    - Limits of one request: `max_rows`, `max_bytes`, `timeout` in seconds; `concurrency`: requests that are answered or wait at a time, others
      get 503 at once.
    - `log`: whether predictions are kept in the lake, for `retention_days`; the values of `private` columns are not, nor are they in any log.
    - `rollout`: what a version in hold does meanwhile.
    """

    port: int | None = None
    workers: int = 1
    max_rows: int = 10_000
    max_bytes: int = 10_000_000
    timeout: float = 30.0
    concurrency: int = 256
    log: bool = True
    private: tuple[str, ...] = ()
    retention_days: float = 365.0
    rollout: Rollout | None = None

    def __post_init__(self) -> None:
        limits = {"max_rows": self.max_rows, "max_bytes": self.max_bytes, "timeout": self.timeout, "concurrency": self.concurrency}
        positive("Serving", workers=self.workers, retention_days=self.retention_days, **limits)
        require(self.port is None or 0 < self.port < 65536, f"Serving.port is {self.port}; expected a number from 1 to 65535.")
