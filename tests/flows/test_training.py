"""Whole cycles on real servers: the first model crowns, a better one replaces, a worse one is kept out, and all of it is on record."""

import json
import re
import shutil
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import httpx
import mlflow
import numpy as np
import polars as pl
import pytest

from flows import pipelines
from flows.training import continuous_training
from infra.parts import Stack
from tasks import score, settings
from tasks.errors import BrokenPipeline, CycleInProgress, ModelRejected, SourceUnavailable, UnknownPipeline
from tasks.records import Decision
from tasks.stores import lake, ledger, models
from tests.landing import toy_rows

pytestmark = pytest.mark.slow
PIPELINES = Path(__file__).parents[1] / "pipelines"


@pytest.fixture
def inbox(cycle_home: Path) -> Path:
    (cycle_home / "inbox" / "toy").mkdir(parents=True)
    return cycle_home / "inbox" / "toy"


@pytest.fixture
def own_toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the toy pipeline's file that a test may edit."""
    (tmp_path / "own").mkdir()
    copy = Path(shutil.copy(PIPELINES / "toy.py", tmp_path / "own" / "toy.py"))
    monkeypatch.setenv("RATCHET_PIPELINES", str(copy.parent))
    return copy


def land(inbox: Path, name: str, frame: pl.DataFrame) -> None:
    frame.write_csv(inbox / name, datetime_format="%Y-%m-%dT%H:%M:%S")


@pytest.fixture(scope="module")
def first(servers: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Decision]:
    """The decision of one whole cycle, in a home of its own, for the tests that only look at what it left."""
    home = tmp_path_factory.mktemp("first")
    given = {"RATCHET_HOME": home, "RATCHET_PIPELINES": PIPELINES, "RATCHET_SETTLE": 0}
    with pytest.MonkeyPatch.context() as environment:
        for name, value in given.items():
            environment.setenv(name, str(value))
        environment.setenv("PREFECT_API_URL", servers.prefect_api_url)
        environment.setenv("MLFLOW_TRACKING_URI", servers.mlflow_url)
        (home / "inbox" / "toy").mkdir(parents=True)
        land(home / "inbox" / "toy", "a.csv", toy_rows(400))
        yield continuous_training("toy")


def test_the_first_model_is_promoted_by_absolute_rules_and_loads_by_its_address(first: Decision) -> None:
    decision = first
    assert isinstance(decision, Decision)
    assert (decision.verdict, decision.previous) == ("promote", None)
    assert decision.as_dict() == ledger.decision("toy", 1)
    assert Decision.from_dict(json.loads(json.dumps(decision.as_dict()))) == decision
    scorer = score.load("models:/toy@champion", pipelines.get("toy"))
    predicted = scorer.predict(toy_rows(50, first=400).drop("label", "after"))
    truth = (toy_rows(50, first=400)["label"] == "yes").cast(pl.Int64)
    assert (predicted["predicted"] == truth).mean() > 0.7
    assert models.pointed("toy") == decision.champion


def test_mlflow_has_the_cycle_its_trials_its_plots_and_the_registered_version(first: Decision, servers: Stack) -> None:
    decision = first
    client = mlflow.MlflowClient(servers.mlflow_url)
    run = client.get_run(decision.mlflow_run or "")
    assert run.info.status == "FINISHED"
    assert {"git_commit", "lock_sha256", "trigger", "prefect_flow_run", "prefect_url"} <= run.data.tags.keys()
    assert {"challenger", "lake_version", "snapshot_sha256", "seed", "threads"} <= run.data.params.keys()
    assert {"training_log_loss", "unseen_roc_auc", "baseline_majority_log_loss", "slice_positive_x_log_loss"} <= run.data.metrics.keys()
    below = client.search_runs([run.info.experiment_id], f"tags.mlflow.parentRunId = '{run.info.run_id}'")
    assert sorted(child.info.run_name for child in below) == ["linear #1", "tree #1", "tree #2"]
    files = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert {"scores.png", "roc.png", "calibration.png", "decision.md", "decision.json"} <= files
    (dataset,) = [given.dataset for given in run.inputs.dataset_inputs]
    assert decision.snapshot is not None
    assert decision.snapshot.digest.startswith(dataset.digest)
    version = client.get_model_version("toy", str(decision.champion))
    champion = ledger.champion("toy")
    assert champion is not None
    assert version.tags["sha256"] == champion.sha256
    native = mlflow.pyfunc.load_model(champion.model_uri)
    assert native.metadata.signature is not None


def test_prefect_has_a_readable_run_its_steps_and_the_decision(first: Decision, servers: Stack) -> None:
    decision = first
    with httpx.Client(base_url=servers.prefect_api_url + "/") as api:
        run = api.get(f"flow_runs/{decision.prefect_run}").json()
        found = api.post("task_runs/filter", json={"flow_runs": {"id": {"any_": [decision.prefect_run]}}}).json()
        artifacts = api.post("artifacts/filter", json={"artifacts": {"flow_run_id": {"any_": [decision.prefect_run]}}}).json()
    assert run["name"].startswith("toy · manual · ")
    assert set(run["tags"]) == {"toy", "manual"}
    names = {task["name"].partition(" ")[0] for task in found}
    assert {"observe", "ingest", "clean", "feature", "train", "fit", "evaluate", "promote", "report"} <= names
    told = next(artifact for artifact in artifacts if artifact["key"] == "toy-decision")
    assert decision.sentence in told["data"]
    assert (decision.mlflow_url or "?") in told["data"]


def test_the_same_snapshot_and_seed_give_the_same_decision(first: Decision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = settings.read().inbox / "toy"
    monkeypatch.setenv("RATCHET_HOME", str(tmp_path / "again"))
    second = continuous_training("toy", source=str(source))
    assert first.snapshot is not None
    assert second.snapshot is not None
    assert first.snapshot.digest == second.snapshot.digest
    assert first.rules == second.rules
    assert lake.scan("toy").collect().height == 400


def test_a_changed_market_brings_a_new_champion_and_equal_data_does_not(inbox: Path) -> None:
    land(inbox, "a.csv", toy_rows(400))
    first = continuous_training("toy")
    land(inbox, "b.csv", toy_rows(400, first=400))
    second = continuous_training("toy")
    assert second.verdict == "keep"
    assert second.champion == first.champion
    land(inbox, "c.csv", toy_rows(2400, first=800, flip=True))
    third = continuous_training("toy")
    assert third.verdict == "promote"
    assert [champion.version for champion in ledger.champions("toy")] == [third.champion, first.champion]
    assert models.pointed("toy") == third.champion


def test_a_challenger_that_is_better_on_the_whole_and_worse_on_one_slice_is_kept_out_by_name(inbox: Path) -> None:
    land(inbox, "a.csv", toy_rows(600))
    champion = continuous_training("toy")
    rows = toy_rows(6000, first=600).filter((pl.col("colour") == "red") | (pl.col("id") % 4 == 0))
    turned = pl.when(pl.col("label") == "yes").then(pl.lit("no")).otherwise(pl.lit("yes"))
    unseen = pl.int_range(pl.len()) >= round(0.6 * rows.height)
    land(inbox, "b.csv", rows.with_columns(label=pl.when((pl.col("colour") == "green") & unseen).then("label").otherwise(turned)))
    decision = continuous_training("toy")
    assert decision.verdict == "keep"
    assert decision.champion == champion.champion
    assert [rule.name for rule in decision.rules if not rule.passed] == ["slice_colour=green"]
    assert "on colour=green" in decision.sentence
    assert "proven worse" in decision.sentence


STUBBORN = """

class Stubborn(LogisticRegression):
    def predict_proba(self, features):
        if len(features) == 150:
            {what}
        return super().predict_proba(features)

"""


@pytest.mark.parametrize(
    ("what", "limit", "says"),
    [
        ("raise RuntimeError('out of luck')", 14400, "the comparison failed, so nothing is proven: RuntimeError: out of luck"),
        ("[__import__('time').sleep(0.05) for _ in range(12_000)]", 4, "the comparison failed, so nothing is proven: "),
        ("return super().predict_proba(features) * float('nan')", 14400, "log_loss cannot be computed"),
    ],
    ids=["raises", "hangs", "gives NaN"],
)
def test_a_comparison_that_fails_promotes_nothing_and_says_why(inbox: Path, own_toy: Path, what: str, limit: int, says: str) -> None:
    text = own_toy.read_text().replace("encode = make", STUBBORN.replace("{what}", what) + "encode = make")
    text = text.replace("LogisticRegression(max", "Stubborn(max").replace("import Candidate, Gate,", "import Retrain, Candidate, Gate,")
    text = text.replace("Holdout(share=0.3)", f"Holdout(rows=150),\n    retrain=Retrain(time_limit={limit})")
    own_toy.write_text(re.sub(r' *Candidate\("tree".*\n', "", text))
    land(inbox, "a.csv", toy_rows(400))
    decision = continuous_training("toy")
    assert decision.verdict == "keep"
    assert says in decision.sentence
    assert ledger.champion("toy") is None


def test_the_comparison_rests_on_rows_newer_than_every_training(inbox: Path) -> None:
    land(inbox, "a.csv", toy_rows(400))
    first = continuous_training("toy")
    land(inbox, "b.csv", toy_rows(400, first=400))
    second = continuous_training("toy")
    champion = ledger.champion("toy")
    assert champion is not None
    assert first.snapshot is not None
    assert champion.trained_until == first.snapshot.last  # it was refitted on all rows of its snapshot
    assert second.evaluation is not None
    assert (second.evaluation.first or "") > (champion.trained_until or "")


def test_nothing_new_is_a_skip_without_training_and_a_rewritten_file_is_noticed(inbox: Path) -> None:
    land(inbox, "a.csv", toy_rows(400))
    continuous_training("toy")
    again = continuous_training("toy")
    assert again.verdict == "skip"
    assert "nothing is new" in again.sentence
    assert again.mlflow_run is None
    land(inbox, "a.csv", toy_rows(500, seed=1))
    assert continuous_training("toy").arrivals == ("a.csv",)


def test_a_changed_definition_is_tried_again_but_not_on_rows_that_the_champion_has_seen(inbox: Path, own_toy: Path) -> None:
    land(inbox, "a.csv", toy_rows(400))
    continuous_training("toy")
    assert "nothing is new" in continuous_training("toy").sentence
    with own_toy.open("a") as file:
        file.write("# another comment\n")
    assert "0 rows newer than what the champion was trained on, too few" in continuous_training("toy").sentence


def test_too_few_rows_train_nothing_and_wait_for_more(inbox: Path) -> None:
    land(inbox, "a.csv", toy_rows(60))
    decision = continuous_training("toy")
    assert decision.verdict == "skip"
    assert "42 rows to train on, too few: at least 50 needed" in decision.sentence
    land(inbox, "b.csv", toy_rows(400, first=60))
    assert continuous_training("toy").verdict == "promote"


def test_one_class_only_trains_nothing(inbox: Path) -> None:
    land(inbox, "a.csv", toy_rows(400).with_columns(label=pl.lit("yes")))
    decision = continuous_training("toy")
    assert decision.verdict == "skip"
    assert "1 classes in the training rows" in decision.sentence


def test_a_bad_file_is_named_in_the_decision_and_the_good_ones_train(inbox: Path) -> None:
    (inbox / "broken.csv").write_bytes(b"\xff\xfe\x00nonsense")
    land(inbox, "good.csv", toy_rows(400))
    decision = continuous_training("toy")
    assert decision.verdict == "promote"
    assert any(note.startswith("broken.csv was quarantined") for note in decision.notes)


def test_a_source_can_be_named_for_one_call(cycle_home: Path, tmp_path: Path) -> None:
    toy_rows(400).write_parquet(tmp_path / "mine.parquet")
    decision = continuous_training("toy", source=str(tmp_path / "mine.parquet"), trigger="notebook")
    assert (decision.verdict, decision.trigger, decision.arrivals) == ("promote", "notebook", ("mine.parquet",))


def test_the_callers_mistakes_are_named_and_leave_no_cycle(cycle_home: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownPipeline, match="Did you mean 'toy'"):
        continuous_training("toys")
    with pytest.raises(SourceUnavailable, match="nearest directory that does"):
        continuous_training("toy", source=str(tmp_path / "absent"))
    assert ledger.last_cycle("toy") is None


def test_what_a_killed_cycle_left_behind_is_removed(inbox: Path, cycle_home: Path) -> None:
    left = cycle_home / "work" / "toy" / "cycle-0"
    left.mkdir(parents=True)
    (left / "features.arrow").write_text("left")
    land(inbox, "a.csv", toy_rows(400))
    continuous_training("toy")
    assert list((cycle_home / "work" / "toy").glob("cycle-*")) == []


def test_a_running_cycle_is_not_disturbed(inbox: Path) -> None:
    land(inbox, "a.csv", toy_rows(400))
    lease = ledger.begin("toy", trigger="test", definition="", flow_run=None)
    with pytest.raises(CycleInProgress):
        continuous_training("toy")
    ledger.release(lease)
    assert continuous_training("toy").verdict == "promote"


def test_a_cycle_that_fails_says_why_and_the_next_one_does_its_work(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    land(inbox, "a.csv", toy_rows(400))
    with monkeypatch.context() as broken:
        broken.setattr("tasks.stores.models.digest", lambda _: "another")
        broken.setattr("tasks.stores.models._fetch", _refuse)
        with pytest.raises(ModelRejected):
            continuous_training("toy")
    failed = ledger.last_cycle("toy")
    assert failed is not None
    assert (failed.state, ledger.champion("toy")) == ("failed", None)
    assert "ModelRejected" in (failed.error or "")
    assert continuous_training("toy").verdict == "promote"


def _refuse(uri: str, wanted: str) -> Path:
    raise ModelRejected("not these bytes")


def test_an_alias_that_a_crash_left_behind_is_moved_by_the_next_cycle(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    land(inbox, "a.csv", toy_rows(400))
    with monkeypatch.context() as crash:
        crash.setattr("tasks.stores.models.point", _die)
        with pytest.raises(KeyboardInterrupt):
            continuous_training("toy")
    champion = ledger.champion("toy")
    assert champion is not None
    assert models.pointed("toy") != champion.version
    assert continuous_training("toy").verdict == "skip"
    assert models.pointed("toy") == champion.version


def _die(pipeline: str, version: int) -> None:
    raise KeyboardInterrupt


def test_a_champion_whose_bytes_were_changed_is_never_loaded_and_opens_no_gate(inbox: Path, cycle_home: Path) -> None:
    land(inbox, "a.csv", toy_rows(400))
    continuous_training("toy")
    champion = ledger.champion("toy")
    assert champion is not None
    stored = Path(mlflow.artifacts.download_artifacts(champion.model_uri, dst_path=str(cycle_home / "look")))
    assert models.digest(stored) == champion.sha256
    shutil.rmtree(cycle_home / "models")
    with ledger.transaction() as connection:
        connection.exec_driver_sql(f"UPDATE champions SET record = replace(record, '{champion.sha256}', '{'0' * 64}')")
    with pytest.raises(ModelRejected, match="changed after the decision"):
        score.load("models:/toy@champion", pipelines.get("toy"))
    land(inbox, "b.csv", toy_rows(900, first=400, flip=True))
    decision = continuous_training("toy")
    assert decision.verdict == "keep"
    assert "could not be scored" in decision.sentence


def test_the_champion_keeps_the_features_it_was_trained_with(inbox: Path, own_toy: Path) -> None:
    land(inbox, "a.csv", toy_rows(400))
    continuous_training("toy")
    rows = toy_rows(30, first=900)
    before = score.load("models:/toy@champion", pipelines.get("toy")).predict(rows)
    own_toy.write_text(own_toy.read_text().replace('rows["x"] ** 2', 'rows["x"] * 0'))
    edited = pipelines.get("toy")
    assert edited.features(rows.to_pandas())["square"].eq(0).all()  # the new text is what is imported now
    after = score.load("models:/toy@champion", edited).predict(rows)
    assert after.equals(before)


def test_several_classes_without_time_or_key_are_ordered_by_arrival(cycle_home: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    source = tmp_path / "in"
    source.mkdir()
    verdicts = []
    for number in range(2):
        width, height = random.uniform(0, 2, (2, 300))
        sort = np.where((width < 1) & (height < 1), "small", np.where(width > height, "flat", "tall"))
        pl.DataFrame({"width": width, "height": height, "sort": sort}).write_parquet(source / f"{number}.parquet")
        verdicts.append(continuous_training("sorts", source=str(source)).verdict)
    assert verdicts == ["promote", "keep"]
    scorer = score.load("models:/sorts@champion", pipelines.get("sorts"))
    made = scorer.predict(pl.DataFrame({"width": [0.2, 1.9], "height": [0.2, 1.2]}))
    assert made["predicted"].to_list() == ["small", "flat"]
    assert {"p_small", "p_flat", "p_tall"} <= set(made.columns)


def test_a_regression_over_days_trains_in_its_window_and_explains_itself(cycle_home: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    days = [date(2024, 1, 1) + timedelta(days=int(day)) for day in np.sort(random.integers(0, 100, 2000))]
    weight, urgent = random.uniform(1, 9, 2000), random.integers(0, 2, 2000).astype(bool)
    amount = 3 * weight + 5 * urgent + random.normal(0, 0.5, 2000)
    pl.DataFrame({"day": days, "weight": weight, "urgent": urgent, "amount": amount}).write_csv(tmp_path / "sales.csv")
    decision = continuous_training("amounts", source=str(tmp_path / "sales.csv"))
    assert (decision.verdict, decision.params) == ("promote", {"alpha": 0.1})
    assert decision.snapshot is not None
    assert decision.snapshot.first == "2024-02-10"  # the window's 60 days
    assert decision.evaluation is not None
    assert decision.evaluation.first == "2024-03-31"
    assert {scores.model for scores in decision.evaluation.baselines} == {"mean", "last_value"}


def test_a_candidate_that_fails_is_noted_and_the_others_go_on(inbox: Path, own_toy: Path) -> None:
    land(inbox, "a.csv", toy_rows(400))
    own_toy.write_text(own_toy.read_text().replace("LogisticRegression(max_iter=200)", "LogisticRegression(C=-1.0)"))
    decision = continuous_training("toy")
    assert (decision.verdict, decision.challenger) == ("promote", "tree")
    assert any(note.startswith("linear #1 could not be trained") for note in decision.notes)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('rows["x"] ** 2', 'rows["absent"]', "features\\(\\) of 'toy' raised KeyError: 'absent'"),
        ('return rows["x"] > 0', 'return rows["absent"] > 0', "Slice 'positive_x' of 'toy' raised KeyError"),
        ('remainder="passthrough"', 'remainder="nonsense"', "No candidate of 'toy' could be trained; the champion stays"),
    ],
)
def test_what_a_pipelines_own_code_raises_is_told_as_such(inbox: Path, own_toy: Path, old: str, new: str, says: str) -> None:
    land(inbox, "a.csv", toy_rows(400))
    text = own_toy.read_text()
    assert old in text
    own_toy.write_text(text.replace(old, new))
    with pytest.raises(BrokenPipeline, match=says):
        continuous_training("toy")
    failed = ledger.last_cycle("toy")
    assert failed is not None
    assert "BrokenPipeline" in (failed.error or "")
