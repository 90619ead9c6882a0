"""Shadow and canary: a version in hold is tried on real requests, nobody gets a wrong answer through it, and it is withdrawn by itself."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from deployments.online import app
from deployments.online.service import Service
from deployments.online.trial import Tally, chosen, objection
from flows import pipelines
from tasks.records import Champion, Decision
from tasks.services import Rollout
from tasks.stores import ledger
from tasks.stores.ledger.proposals import propose
from tests.deployments.online.test_api import MINE
from tests.servers.online import enthrone
from tests.stored import store
from tests.waiting import until

ROWS = pl.DataFrame({"x": [place / 7 for place in range(200)], "word": ["a", "b"] * 100, "y": [2 * place / 7 for place in range(200)]})


def tally(requests: int, failed: int = 0, seconds: float = 0.01) -> Tally:
    made = Tally(requests, failed)
    made.seconds.extend([seconds] * (requests - failed))
    return made


def test_nothing_is_said_of_a_version_before_it_was_asked_often_enough() -> None:
    assert objection(Rollout(min_requests=50), tally(50), tally(49, failed=49)) is None
    assert objection(Rollout(min_requests=50), tally(50), tally(50, failed=50)) is not None


def test_a_version_is_held_against_the_champions_own_failures() -> None:
    assert objection(Rollout(max_error_rate=0.05), tally(100, 50), tally(100, 54)) is None
    assert "54.0 %" not in (objection(Rollout(max_error_rate=0.05), tally(100, 50), tally(100, 56)) or "")
    assert "56.0 %" in (objection(Rollout(max_error_rate=0.05), tally(100, 50), tally(100, 56)) or "")


def test_a_version_may_be_a_little_slower_and_not_much() -> None:
    assert objection(Rollout(max_slowdown=2), tally(100, seconds=0.01), tally(100, seconds=0.019)) is None
    assert objection(Rollout(max_slowdown=2), tally(100, seconds=0.001), tally(100, seconds=0.004)) is None, "milliseconds are noise"
    assert "90th percentile" in (objection(Rollout(max_slowdown=2), tally(100, seconds=0.01), tally(100, seconds=0.021)) or "")


@given(st.floats(0.05, 0.95), st.text(min_size=1, max_size=5))
def test_all_requests_of_an_entity_go_to_the_same_version(share: float, entity: str) -> None:
    rollout = Rollout(mode="canary", share=share, sticky=("word",))
    rows = {"word": np.array([entity] * 3, dtype=object)}
    assert len({chosen(rollout, "p", 7, rows) for _ in range(5)}) == 1


@pytest.mark.parametrize("sticky", [(), ("word",)])
def test_a_canary_gets_its_share_of_requests(sticky: tuple[str, ...]) -> None:
    rollout = Rollout(mode="canary", share=0.2, sticky=sticky)
    share = np.mean([chosen(rollout, "p", 7, {"word": np.array([f"entity {number}"], dtype=object)}) for number in range(5000)])
    assert 0.17 < share < 0.23


def test_a_request_about_several_entities_goes_to_the_champion() -> None:
    rows = {"word": np.array(["a", "b"], dtype=object)}
    assert not any(chosen(Rollout(mode="canary", share=0.99, sticky=("word",)), "p", cycle, rows) for cycle in range(50))


class Kept:
    """What a service kept of its predictions."""

    def __init__(self) -> None:
        self.roles: list[tuple[str, int, str]] = []

    def __call__(self, active: Any, asked: Any, rows: Any, answers: Any, role: str) -> None:
        self.roles.append((role, active.version, asked.identity))


@pytest.fixture
def trial(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Serve a champion, version 1, beside version 2 in hold, which is `spoil` of its own fit."""
    monkeypatch.setenv("RATCHET_PIPELINES", str(tmp_path / "own"))
    (tmp_path / "own").mkdir()

    @contextmanager
    def made(rollout: str, spoil: Any = lambda model: model) -> Iterator[tuple[TestClient, Service, Kept]]:
        text = MINE.replace("tasks.spec import", "tasks.spec import Rollout, Serving,")
        text = text.replace('gate=Gate(metric="mae"),', f'gate=Gate(metric="mae"), serving=Serving(timeout=1, rollout={rollout}),')
        (tmp_path / "own" / "mine.py").write_text(text)
        enthrone(store("mine", ROWS, tmp_path / "first", unseen=60).candidate, 1)
        hold(store("mine", ROWS, tmp_path / "second", unseen=60, spoil=spoil).candidate)
        with TestClient(app.create("mine", pipelines.get("mine"), "http://127.0.0.1:1", False), base_url="http://127.0.0.1") as found:
            service: Service = found.app.app.state.service  # type: ignore[attr-defined]
            kept = service.keep = Kept()  # type: ignore[method-assign, assignment]
            yield found, service, kept

    return made


def hold(candidate: Champion) -> None:
    made = Champion(**{**candidate.__dict__, "version": 2, "cycle": 2})
    decision = Decision(pipeline=made.pipeline, cycle=2, verdict="hold", sentence="held", previous=1, champion=1, proposed=2)
    with ledger.transaction() as connection:
        propose(connection, decision, made)


def factor(value: float) -> Any:
    def spoiled(model: Any) -> Any:
        model.factor_ = value
        return model

    return spoiled


def asked(found: TestClient, word: str = "a", x: float = 1.0) -> tuple[int, Any]:
    reply = found.post("/v1/predict", json={"rows": [{"x": x, "word": word}]})
    return reply.status_code, reply.json()


def test_a_shadow_predicts_what_the_champion_answers_and_is_never_answered(trial: Any) -> None:
    with trial("Rollout(min_requests=5)", factor(3.0)) as (found, _, kept):
        answers = [asked(found)[1] for _ in range(10)]
        assert {(one["version"], one["predictions"][0]["predicted"]) for one in answers} == {(1, 2.0)}
        until(lambda: len(kept.roles) == 20, "both are kept")
        assert {(role, version) for role, version, _ in kept.roles} == {("champion", 1), ("shadow", 2)}
        assert all(len([role for role, _, request in kept.roles if request == one["request"]]) == 2 for one in answers)
    assert ("shadow", 2) in {(step.step, step.version) for step in ledger.steps("mine")}


def test_a_canary_answers_for_its_entities_alone(trial: Any) -> None:
    with trial('Rollout(mode="canary", share=0.5, sticky=("word",))', factor(3.0)) as (found, service, _):
        words = [f"customer {number}" for number in range(20)]
        first = {word: asked(found, word)[1]["version"] for word in words}
        assert set(first.values()) == {1, 2}
        assert {word: asked(found, word)[1]["version"] for word in words} == first
        for word in words:
            answer = asked(found, word)[1]
            assert answer["predictions"][0]["predicted"] == {1: 2.0, 2: 3.0}[answer["version"]]
        assert service.state()["trial"]["mode"] == "canary"


def test_a_canary_that_gives_an_endless_figure_is_withdrawn_at_once_and_nobody_gets_it(trial: Any) -> None:
    with trial('Rollout(mode="canary", share=0.9)') as (found, service, _):
        assert service.follower.held is not None
        service.follower.held.answerer.model.estimator.factor_ = float("inf")
        assert {asked(found)[1]["predictions"][0]["predicted"] for _ in range(20)} == {2.0}
        assert service.follower.held is None
        until(lambda: ledger.withdrawn("mine", 2), "the ledger is told")
    again = app.create("mine", pipelines.get("mine"), "http://127.0.0.1:1", False)
    with TestClient(again, base_url="http://127.0.0.1") as found:
        assert asked(found)[0] == 200
        assert again.app.state.service.follower.held is None, "a version that was withdrawn is on no trial again"


def test_a_canary_that_fails_is_answered_by_the_champion_and_withdrawn(trial: Any) -> None:
    with trial('Rollout(mode="canary", share=0.9, min_requests=10)') as (found, service, _):
        assert service.follower.held is not None
        del service.follower.held.answerer.model.estimator.factor_
        assert {asked(found)[0] for _ in range(40)} == {200}
        assert service.follower.held is None
        assert "requests failed" in until(lambda: ledger.withdrawn("mine", 2), "the ledger is told")


def test_a_canary_that_hangs_takes_nothing_from_the_champion_and_is_withdrawn(trial: Any) -> None:
    with trial('Rollout(mode="canary", share=0.99)') as (found, service, _):
        assert service.follower.held is not None
        service.follower.held.answerer.model.estimator.predict = lambda features: time.sleep(4)
        object.__setattr__(service.follower.held.answerer, "bare", None)
        assert {asked(found)[0] for _ in range(10)} == {200}
        assert "more than 1 s" in until(lambda: ledger.withdrawn("mine", 2), "it is withdrawn")
        assert service.state()["ready"]
        assert service.scorer.hung == 0


def test_a_version_whose_contract_refuses_what_is_asked_is_counted_as_failing(trial: Any) -> None:
    with trial("Rollout(min_requests=5)") as (found, service, _):
        assert service.follower.held is not None
        service.follower.held.answerer.admission.admit = lambda given: service.follower.held.answerer.admission.examine(pl.DataFrame())
        assert {asked(found)[0] for _ in range(10)} == {200}
        assert "requests failed" in until(lambda: ledger.withdrawn("mine", 2), "it is withdrawn")


def test_a_version_that_is_answered_for_is_on_no_trial_any_more(trial: Any) -> None:
    with trial("Rollout()") as (_, service, _kept):
        assert service.follower.held is not None
        ledger.reject("mine", who="anna", why="it is not needed")
        until(lambda: service.follower.held is None, "its trial ends")
