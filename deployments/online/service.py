"""What one server process consists of: the follower, the scorer, the meters, the reporter and the prediction log."""

from dataclasses import asdict, dataclass
from typing import Any

from deployments.online.follower import Follower
from deployments.online.meters import Meters, Now
from deployments.online.reporter import Reporter
from deployments.online.scorer import Answers, Scorer
from deployments.online.versions import Active
from tasks.admission import Admitted
from tasks.records import Champion
from tasks.services import Serving
from tasks.stores import ledger


@dataclass
class Outcome:
    """What is to be counted of a request: the version that answers it, and its rows."""

    version: int | None = None
    rows: int = 0


class Service:
    """One server process of one pipeline."""

    def __init__(self, name: str, limits: Serving, url: str) -> None:
        self.name, self.server = name, ledger.holder()
        self.limits = limits
        self.reporter = Reporter(name, self.server, url, self.state)
        self.follower = Follower(name, self.reporter.note)
        self.scorer = Scorer()
        self.meters = Meters(name, self._now)

    def start(self) -> None:
        """Bring the champion in, if there is one, and begin to follow it."""
        self.follower.start()
        self.reporter.start()

    def stop(self) -> None:
        """End what was begun; requests have been answered by now."""
        self.follower.stop()
        self.scorer.close()
        self.reporter.stop()

    def keep(self, active: Active, request: str, rows: Admitted, answers: Answers) -> None:
        """Keep what was predicted."""

    def state(self) -> dict[str, Any]:
        """Say how the server is, in the form that /readyz and `ratchet status` show."""
        active, refused = self.follower.current, self.follower.refused
        return {
            "ready": active is not None and self.scorer.able,
            "version": active.version if active else None,
            "decision": active.champion.cycle if active else None,
            "refused": {"version": refused.champion.version, "why": refused.why} if refused else None,
            "ledger": self.follower.away or "answers",
            "hung": self.scorer.hung,
            "held": self.follower.held.version if self.follower.held else None,
        }

    def model(self) -> dict[str, Any]:
        """Say which version answers, in the form that /v1/model shows."""
        active = self.follower.current
        if active is None:
            return {"pipeline": self.name, "version": None}
        return {**_told(active.champion), "inputs": _inputs(active), "kind": active.answerer.model.pipeline.kind}

    def _now(self) -> Now:
        state = self.state()
        return Now(state["version"], state["ready"], 0, 0, 0)


def _told(champion: Champion) -> dict[str, Any]:
    return {name: value for name, value in asdict(champion).items() if name not in ("model_uri", "until")} | {"decision": champion.cycle}


def _inputs(active: Active) -> dict[str, str]:
    return {name: str(dtype) for name, dtype in active.answerer.admission.types.items()}
