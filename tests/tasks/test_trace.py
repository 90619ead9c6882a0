"""From a prediction back to the files it came from, and the answer made anew: without servers, with real files, lake, ledger and model."""

import io
import os
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from deployments import traced
from flows import pipelines
from tasks import predictions, serving
from tasks.errors import UserError
from tasks.feature import content_digest, ordered_rows
from tasks.predictions import Limits, PredictionLog, Served
from tasks.records import Champion, Decision, Snapshot
from tasks.served import Role, batch_of, types_of
from tasks.stores import kept, lake, ledger, spool
from tasks.trace import files_of, find, parts_of, trace
from tests.landing import take_in, toy_rows
from tests.stored import store

MOMENT = 1_790_000_000.25
REQUEST = f"{int(MOMENT * 1000):012x}0123456789abcdef"


@pytest.fixture
def champion(home: Path, tmp_path: Path) -> Champion:
    """A champion of the toy pipeline that was trained on two files, of which one was replaced and one came since."""
    inbox = tmp_path / "in"
    inbox.mkdir()
    land(inbox, "a.csv", toy_rows(200))
    land(inbox, "b.csv", toy_rows(100, first=200))
    take_in(inbox)
    made = crowned(tmp_path / "one")
    land(inbox, "b.csv", toy_rows(90, first=200))
    land(inbox, "c.csv", toy_rows(50, first=300))
    take_in(inbox)
    return made


def land(inbox: Path, name: str, rows: pl.DataFrame) -> None:
    (inbox / name).write_text(rows.write_csv(datetime_format="%Y-%m-%dT%H:%M:%S"))


def crowned(into: Path, version: int = 1) -> Champion:
    """Train on what is in the lake, and make it the champion by a recorded decision."""
    spec, at = pipelines.get("toy"), lake.version("toy") or 0
    rows = ordered_rows(spec, at)
    stored = store("toy", rows.drop("_order", "_seq", "_row"), into, unseen=50)
    first, last = rows["at"][0].isoformat(), rows["at"][-1].isoformat()
    snapshot = Snapshot(lake.uri("toy", "rows"), at, rows.height, first, last, content_digest(rows, rows.columns))
    lease = ledger.begin("toy", trigger="test", definition="d", flow_run=None)
    made = replace(stored.candidate, version=version, cycle=lease.cycle, trained_version=at, since=ledger.now())
    before = ledger.champion("toy")
    decision = Decision(
        "toy", lease.cycle, "promote", "It is better.", champion=version, previous=before.version if before else None, snapshot=snapshot
    )
    ledger.decide(
        lease, replace(decision, mlflow_run="run-1", mlflow_url="http://mlflow/1", at=ledger.now()), trained_rows=250, candidate=made
    )
    ledger.end(lease)
    ledger.release(lease)
    return made


def answer(champion: Champion, rows: pl.DataFrame, request: str = REQUEST, role: Role = "champion") -> Served:
    """Predict as a server does, and give what it logs."""
    model = kept.load(champion)
    raw = serving.typed(rows, model.pipeline)
    made = serving.predict(model, raw)
    return Served(request, MOMENT, champion.version, champion.cycle, role, raw.to_dict(as_series=False), made.to_dict(as_series=False))


def logged(*served: Served) -> None:
    log = PredictionLog(pipelines.get("toy"), "here/1-2", Limits(drain=0.01))
    for one in served:
        log.add(one)
    log.close()


def test_a_prediction_leads_to_version_decision_snapshot_and_files_and_is_made_anew_to_the_last_bit(
    champion: Champion, tmp_path: Path
) -> None:
    rows = toy_rows(7, first=500)
    logged(answer(champion, rows), answer(champion, toy_rows(1, first=900), f"{REQUEST[:-1]}0"))
    crowned(tmp_path / "two", version=2)  # retrained since, on other rows
    found = trace("toy", f"{REQUEST}-3")
    assert found
    assert (found.version, found.cycle, found.role, found.server) == (1, champion.cycle, "champion", "here/1-2")
    assert found.row == rows.cast({"at": pl.Datetime("us")}).select("id", "at", "x", "colour").row(3, named=True)
    assert set(found.answer) == {"predicted", "p_1"}
    assert found.again.equal is True, found.again
    assert found.again.answer == found.answer
    assert found.model == replace(champion, until=found.model.until if found.model else None)
    assert found.decision == ledger.decision("toy", champion.cycle)
    assert found.snapshot
    assert [(file.arrival.name if file.arrival else "", file.rows) for file in found.files] == [("a.csv", 200), ("b.csv", 100)]
    assert [file.arrival.superseded for file in found.files if file.arrival] == [False, True]
    assert (found.mlflow_run, found.mlflow_url) == ("run-1", "http://mlflow/1")


def test_an_answer_that_was_another_is_said_to_be_one(champion: Champion) -> None:
    served = answer(champion, toy_rows(2, first=500))
    wrong = {**served.answers, "p_1": [served.answers["p_1"][0], float(served.answers["p_1"][1]) + 1e-16]}
    wrong["p_1"] = [wrong["p_1"][0], wrong["p_1"][1] * (1 + 2**-52)]
    logged(replace(served, answers=wrong))
    first, second = trace("toy", f"{REQUEST}-0"), trace("toy", f"{REQUEST}-1")
    assert first and second
    assert (first.again.equal, second.again.equal) == (True, False)


def test_a_prediction_is_found_before_it_is_in_the_lake_and_once_while_it_is_in_both(champion: Champion) -> None:
    writer = spool.Writer("toy")

    writer.append([batch_of([answer(champion, toy_rows(3))], types_of(pipelines.get("toy")), (), "here")])
    assert find("toy", f"{REQUEST}-0").height == 3
    writer.seal()
    (path,) = writer.sealed()
    content = path.read_bytes()
    predictions.commit("toy", writer.name, writer.sealed())
    path.write_bytes(content)
    assert find("toy", f"{REQUEST}-0")["_prediction"].to_list() == [f"{REQUEST}-{row}" for row in range(3)]
    os.close(writer._lock)


def test_a_row_without_its_private_columns_is_traced_and_said_not_to_be_predicted_anew(champion: Champion) -> None:
    served = answer(champion, toy_rows(1))
    logged(replace(served, rows={name: values for name, values in served.rows.items() if name != "colour"}))
    found = trace("toy", f"{REQUEST}-0", private=("colour",))
    assert found
    assert found.again.equal is None
    assert "colour is private" in found.again.sentence
    assert "colour" not in found.row
    assert len(found.files) == 2


def test_a_version_that_only_shadows_is_known_by_the_proposal_of_its_cycle(champion: Champion) -> None:
    lease = ledger.begin("toy", trigger="test", definition="d", flow_run=None)
    waits = replace(champion, version=5, cycle=lease.cycle)
    ledger.decide(lease, Decision("toy", lease.cycle, "hold", "A person decides.", previous=1, proposed=5), trained_rows=1, candidate=waits)
    ledger.release(lease)
    logged(answer(waits, toy_rows(1), role="shadow"))
    found = trace("toy", f"{REQUEST}-0")
    assert found and found.model and found.decision
    assert (found.model.version, found.role, found.decision["verdict"]) == (5, "shadow", "hold")
    assert (found.again.equal, found.files_note) == (True, "The decision has no snapshot.")


def test_of_several_versions_that_predicted_a_row_the_one_that_answered_is_traced(champion: Champion) -> None:
    served = answer(champion, toy_rows(3))
    logged(replace(served, version=9, role="shadow", answers={"predicted": [0, 0, 0], "p_1": [0.0, 0.25, 0.5]}), served)
    found = trace("toy", f"{REQUEST}-1")
    assert found
    assert (found.version, found.role, found.again.equal) == (1, "champion", True)
    assert found.shadows == ({"version": 9, "role": "shadow", "predicted": 0, "p_1": 0.25},)


def test_of_a_large_log_only_the_files_that_may_hold_the_prediction_are_read(champion: Champion, home: Path) -> None:
    logged(answer(champion, toy_rows(1)))
    mine = set((home / "lake" / "toy" / "predictions").rglob("*.parquet"))
    for days in (-40, -1, 1, 40):  # other days, and, by another beginning of the name, other files of the same day
        logged(
            replace(
                answer(champion, toy_rows(1)), moment=MOMENT + days * 86_400, request=f"{int((MOMENT + days * 86_400) * 1000):012x}{0:016x}"
            )
        )
    logged(answer(champion, toy_rows(1), f"{REQUEST[:-1]}0"))
    others = set((home / "lake" / "toy" / "predictions").rglob("*.parquet")) - mine
    assert len(others) == 5
    for path in others:
        path.write_bytes(b"unreadable")
    assert find("toy", f"{REQUEST}-0").height == 1


def test_a_model_that_is_not_there_any_more_is_said_so_and_the_rest_is_told(champion: Champion) -> None:
    logged(answer(champion, toy_rows(1)))
    (kept.place(champion.sha256) / "model.skops").write_bytes(b"other")
    found = trace("toy", f"{REQUEST}-0")
    assert found and found.decision
    assert found.again.equal is None
    assert "No MLflow server is named" in found.again.sentence


def test_only_the_rows_of_the_window_count_also_where_it_begins_amid_rows_of_equal_order(champion: Champion) -> None:
    spec = replace(pipelines.get("toy"), time=None)
    assert [rows for _, _, rows in files_of(spec, Snapshot("", 1, 300, "0", None, ""))] == [200, 100]
    assert [rows for _, _, rows in files_of(spec, Snapshot("", 1, 120, "0", None, ""))] == [100, 20]


@pytest.mark.parametrize("name", ["", "7", f"{REQUEST}", f"{REQUEST}-x", f"{REQUEST.upper()}-0", "f" * 28 + "-0", "../../etc/passwd"])
def test_what_is_no_prediction_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="no prediction's name"):
        parts_of(name)


def test_the_command_tells_it_all_and_finds_the_pipeline_by_itself(
    champion: Champion, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logged(answer(champion, toy_rows(1)))
    output = io.StringIO()
    monkeypatch.setattr(traced, "console", Console(file=output, width=300))
    traced.show(f"{REQUEST}-0", None, as_json=False)
    for part in (
        "by version 1 as champion",
        f"cycle {champion.cycle}",
        "It is better.",
        "a.csv  200 rows",
        "equal to the last bit",
        "http://mlflow/1",
    ):
        assert part in output.getvalue()
    traced.show(f"{REQUEST}-0", "toy", as_json=True)
    assert '"equal": true' in capsys.readouterr().out
    with pytest.raises(UserError, match="is in no log of"):
        traced.show(f"{REQUEST}-1", None, as_json=False)
