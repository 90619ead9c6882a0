"""Batch scoring: every row accounted for, once for each version of a file and of the model, whatever interrupts it."""

import gzip
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows import pipelines
from tasks import batch, parts, predicted, score
from tasks.errors import DiskFull, UserError
from tasks.scorings import Scored
from tasks.stores import ledger, places
from tests.championed import champion
from tests.landing import toy_rows
from tests.stored import amounts_rows, sorts_rows
from tests.waiting import until

ISO = "%Y-%m-%dT%H:%M:%S"
OWN = ["predicted", "p_1", "_version", "_scored_at", "_file", "_row"]


@pytest.fixture
def place(home: Path, tmp_path: Path) -> Path:
    """A place with a champion of the toy pipeline and a directory for input."""
    champion(tmp_path)
    (tmp_path / "in").mkdir()
    return tmp_path


def ask(place: Path, given: Path | None = None, *, form: str = "parquet", name: str = "toy", **options: object) -> tuple[Scored, ...]:
    """Score a file or directory into `out`, as the command does."""
    source = str(given or place / "in")
    asked = batch.order(pipelines.get(name), str(place / "out"), form, source)
    return tuple(batch.score(asked, look, **options) for look in batch.inputs(source)[0])  # type: ignore[arg-type]


def predictions(place: Path, kind: str = "predictions") -> pl.DataFrame:
    found = sorted((place / "out" / kind).glob("*.parquet"))
    return pl.concat([pl.read_parquet(path) for path in found]).sort("_file", "_row")


def written(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in sorted((place / "out").rglob("*")) if path.is_file()}


FORMATS = {
    "a.csv": lambda rows, path: rows.write_csv(path, datetime_format=ISO),
    "a.csv.gz": lambda rows, path: path.write_bytes(gzip.compress(rows.write_csv(datetime_format=ISO).encode())),
    "a.parquet": lambda rows, path: rows.write_parquet(path),
    "a.jsonl": lambda rows, path: rows.with_columns(pl.col("at").dt.strftime(ISO)).write_ndjson(path),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("dropped", [(), ("label", "after")], ids=["labelled", "unlabelled"])
def test_the_predictions_are_those_of_the_champion_to_the_last_bit(place: Path, name: str, dropped: tuple[str, ...]) -> None:
    rows = toy_rows(500)
    FORMATS[name](rows.drop(dropped), place / "in" / name)
    (made,) = ask(place)
    assert (made.outcome, made.rows, made.rejected, made.version) == ("scored", 500, 0, 1)
    found, wanted = predictions(place), score.load("models:/toy@champion", pipelines.get("toy")).predict(rows)
    assert found.columns == ["id", "at", "x", "colour", *OWN]
    assert found["p_1"].to_list() == wanted["p_1"].to_list()
    assert found["predicted"].to_list() == wanted["predicted"].to_list()
    assert found.select("id", "at", "x", "colour").equals(rows.select("id", "at", "x", "colour"))
    assert found["_row"].to_list() == list(range(1, 501))
    assert found["_file"].unique().to_list() == [str(place / "in" / name)]
    assert (found["_version"].unique().to_list(), found.schema["_scored_at"]) == ([1], pl.Datetime("us", "UTC"))


@pytest.mark.parametrize(
    ("name", "rows", "columns"), [("sorts", sorts_rows(), ["p_flat", "p_small", "p_tall"]), ("amounts", amounts_rows(), [])]
)
def test_classes_and_amounts_are_predicted_as_the_champion_does(
    home: Path, tmp_path: Path, name: str, rows: pl.DataFrame, columns: list[str]
) -> None:
    champion(tmp_path, name=name, rows=rows)
    rows.write_parquet(tmp_path / "in.parquet")
    ask(tmp_path, tmp_path / "in.parquet", name=name)
    wanted = score.load(f"models:/{name}@champion", pipelines.get(name)).predict(rows)
    assert predictions(tmp_path).select("predicted", *columns).equals(wanted)


def test_csv_reads_back_to_the_same_numbers(place: Path) -> None:
    rows = toy_rows(300)
    rows.write_parquet(place / "in" / "a.parquet")
    ask(place, form="csv")
    (path,) = (place / "out" / "predictions").iterdir()
    wanted = score.load("models:/toy@champion", pipelines.get("toy")).predict(rows)
    found = pl.read_csv(path, try_parse_dates=True)
    assert (path.suffix, found["p_1"].to_list(), found["at"].to_list()) == (".csv", wanted["p_1"].to_list(), rows["at"].to_list())


def test_rows_that_break_the_contract_are_rejected_with_reasons_and_all_are_accounted_for(place: Path) -> None:
    text = toy_rows(6).drop("label", "after").write_csv(datetime_format=ISO).splitlines()
    text[2] = "1,2024-01-01T00:01:00,99.5,blue"
    text[4] = "three,2024-01-01T00:03:00,0.5,red"
    text[5] = "4,2024-01-01T00:04:00,,red"
    (place / "in" / "a.csv").write_text("\n".join(text) + "\n")
    (made,) = ask(place)
    assert (made.rows, made.predicted, made.rejected) == (6, 3, 3)
    assert predictions(place)["_row"].to_list() == [1, 3, 6]
    found = predictions(place, "rejected")
    assert found.select("_row", "column", "rule", "value").rows() == [
        (2, "x", "less_than_or_equal_to(10)", "99.5"),
        (2, "colour", "isin(['red', 'green'])", "blue"),
        (4, "id", "dtype(int64)", "three"),
        (5, "x", "not_nullable", None),
    ]
    assert found["record"][0] == '{"id":"1","at":"2024-01-01T00:01:00","x":"99.5","colour":"blue"}'
    assert set(found["_file"]) == {str(place / "in" / "a.csv")}


def test_a_target_that_is_not_a_label_is_no_reason_to_reject_a_row(place: Path) -> None:
    toy_rows(5).with_columns(label=pl.lit("?"), after=pl.lit(float("inf"))).write_parquet(place / "in" / "a.parquet")
    assert [(made.rows, made.rejected) for made in ask(place)] == [(5, 0)]


def test_rows_that_break_many_rules_are_written_in_pieces(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_parts(monkeypatch)
    monkeypatch.setattr(parts, "ENTRIES", 600)
    toy_rows(1_100).with_columns(x=pl.lit(50.0), colour=pl.lit("blue")).write_parquet(place / "in" / "a.parquet")
    (made,) = ask(place)
    assert (made.rows, made.rejected) == (1_100, 1_100)
    assert [output.partition("-v1-")[2] for output in made.outputs] == ["00001.parquet", "00001-2.parquet", "00002.parquet"]
    found = predictions(place, "rejected")
    assert (found.height, found["_row"].unique().to_list()) == (2_200, list(range(1, 1_101)))


def test_a_file_of_bad_rows_alone_leaves_only_its_rejected_rows(place: Path) -> None:
    toy_rows(5).with_columns(x=pl.lit(50.0)).write_parquet(place / "in" / "a.parquet")
    (made,) = ask(place)
    assert (made.outcome, made.rows, made.rejected) == ("scored", 5, 5)
    assert [output.partition("/out/")[2].partition("/")[0] for output in made.outputs] == ["rejected"]


def test_what_cannot_be_read_is_refused_with_its_reason_and_delays_no_other(place: Path) -> None:
    source = place / "in"
    (source / "a.csv").write_text("")
    (source / "b.csv").write_text("id,at,x,colour\n")
    (source / "c.parquet").write_bytes(b"PAR1 cut off")
    (source / "d.csv").write_text("<html>503</html>")
    toy_rows(5).write_parquet(source / "e.parquet")
    (source / "f.txt").write_text("")
    made = ask(place)
    assert [part.outcome for part in made] == ["refused"] * 4 + ["scored"]
    assert [(part.reason or "").partition(" ")[0] for part in made[:4]] == ["The", "It", "It", "Columns"]
    assert predictions(place).height == 5
    assert {row.state for row in ledger.list_scorings("toy")} == {"refused", "done"}
    assert batch.inputs(str(source))[1] == ("f.txt: an ending that is not read",)
    toy_rows(3).write_csv(source / "d.csv", datetime_format=ISO)
    assert [part.outcome for part in ask(place)] == ["refused"] * 3 + ["scored", "known"]


def test_a_file_that_breaks_off_late_leaves_nothing_of_its_first_part(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_parts(monkeypatch)
    text = toy_rows(2_500).drop("label", "after").write_csv(datetime_format=ISO)
    (place / "in" / "a.csv").write_bytes(text.encode() + b'"an open quote, and no end\n' * 3)
    (made,) = ask(place)
    assert made.outcome == "refused"
    assert written(place) == {}
    assert [path.name for path in (place / "out").iterdir() if not path.is_dir() or any(path.iterdir())] == []


def test_columns_that_the_contract_does_not_have_are_left_out_and_told(place: Path) -> None:
    toy_rows(5).with_columns(shoe=pl.lit(b"\xff"), predicted=pl.lit("mine")).write_parquet(place / "in" / "a.parquet")
    (made,) = ask(place)
    assert "['predicted', 'shoe']" in made.notes[0]
    assert predictions(place).columns == ["id", "at", "x", "colour", *OWN]


def test_a_second_call_does_nothing_and_says_so_and_a_new_version_or_place_is_scored(place: Path) -> None:
    toy_rows(50).write_parquet(place / "in" / "a.parquet")
    (first,) = ask(place)
    before = written(place)
    (second,) = ask(place)
    assert (second.outcome, second.at, second.outputs) == ("known", first.at, first.outputs)
    toy_rows(50).write_parquet(place / "in" / "b.parquet")  # the same content under another name
    assert [made.outcome for made in ask(place)] == ["known", "known"]
    assert written(place) == before
    assert [made.outcome for made in ask(place, form="csv")] == ["scored", "known"]
    champion(place, version=2)
    assert [(made.outcome, made.version) for made in ask(place)] == [("scored", 2), ("known", 2)]
    toy_rows(51).write_parquet(place / "in" / "a.parquet")
    assert [made.outcome for made in ask(place)] == ["scored", "known"]
    assert {name: written(place)[name] for name in before} == before
    assert sorted(predictions(place).group_by("_version").len().rows()) == [(1, 50), (2, 101)]


def test_nothing_of_somebody_elses_is_overwritten(place: Path) -> None:
    toy_rows(50).write_parquet(place / "in" / "a.parquet")
    (made,) = ask(place)
    with ledger.transaction() as connection:  # as another home would have it, whose ledger knows of nothing
        connection.exec_driver_sql("DELETE FROM scorings")
    Path(made.outputs[0]).write_bytes(b"mine")
    with pytest.raises(UserError, match="is there already and has other content; it is not overwritten"):
        ask(place)
    assert Path(made.outputs[0]).read_bytes() == b"mine"


def test_an_output_among_the_inputs_is_refused(place: Path) -> None:
    for output in (place / "in", place / "in" / "out"):
        with pytest.raises(UserError, match="would be read as input"):
            batch.order(pipelines.get("toy"), str(output), "parquet", str(place / "in"))
    with pytest.raises(UserError, match="none of parquet, csv"):
        batch.order(pipelines.get("toy"), str(place), "xlsx", str(place / "in"))
    with pytest.raises(UserError, match="no champion yet"):
        batch.order(pipelines.get("amounts"), str(place), "csv", str(place / "in"))


def test_an_output_that_cannot_be_written_is_the_callers_to_correct(place: Path) -> None:
    toy_rows(5).write_parquet(place / "in" / "a.parquet")
    (place / "out").write_text("a file")
    with pytest.raises(UserError, match="cannot be written"):
        ask(place)


def test_a_champion_that_changes_amid_an_input_does_not_change_its_version(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_parts(monkeypatch)
    for name in ("a", "b"):
        toy_rows(3_000, seed=ord(name)).write_parquet(place / "in" / f"{name}.parquet")
    swapped: list[int] = []

    def swap(_: int) -> None:
        if not swapped:
            swapped.append(champion(place, version=2).version)

    assert [made.version for made in ask(place, tell=swap)] == [1, 1]
    assert predictions(place)["_version"].unique().to_list() == [1]
    assert [(made.outcome, made.version) for made in ask(place)] == [("scored", 2), ("scored", 2)]


def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let parts be of a thousand rows."""
    monkeypatch.setattr(parts, "rows_of_block", lambda columns: 500)
    monkeypatch.setattr(parts, "BLOCKS", 2)


KILLED = """
import os, signal, sys
from tasks import parts
parts.rows_of_block, parts.BLOCKS = (lambda columns: 500), 2
finish, limit = parts.Part.finish, int(sys.argv[2])
def stopped(self):
    made = finish(self)
    if self.number + 1 == limit:
        os.kill(os.getpid(), signal.SIGKILL)
    return made
parts.Part.finish = stopped
from pathlib import Path
from tests.tasks.test_batch import ask
ask(Path(sys.argv[1]))
"""


def test_after_a_kill_the_next_call_goes_on_with_the_version_it_was_begun_with_and_ends_as_if_nothing_had_been(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_parts(monkeypatch)
    toy_rows(4_500).with_columns(x=pl.when(pl.col("id") % 100 == 7).then(99.0).otherwise("x")).write_parquet(place / "in" / "a.parquet")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(place), "3"], capture_output=True, text=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert written_visibly(place) == []  # not one part is seen until all are there
    champion(place, version=2)
    told: list[int] = []
    made_again: list[int] = []
    monkeypatch.setattr(predicted, "held", lambda *given: made_again.append(given[1].height) or HELD(*given))
    (made,) = ask(place, tell=told.append)
    assert (made.outcome, made.version, made.rows, made.rejected) == ("scored", 1, 4_500, 45)
    assert (sum(told), sum(made_again)) == (4_500, 1_500)
    resumed, at = written(place), made.at
    for path in (place / "out").rglob("*.parquet"):
        path.unlink()
    with ledger.transaction() as connection:
        connection.exec_driver_sql("UPDATE scorings SET state = 'running'")
    (whole,) = ask(place)
    assert (whole.at, written(place)) == (at, resumed)
    assert not list((place / "out").glob(".*"))


HELD = predicted.held


def written_visibly(place: Path) -> list[str]:
    return [path.name for path in (place / "out").rglob("*") if path.is_file() and not path.parent.name.startswith(".")]


SLOWLY = """
import sys
from pathlib import Path
from tasks import parts
parts.rows_of_block, parts.BLOCKS = (lambda columns: 2_500), 2
from tests.tasks.test_batch import ask
print(ask(Path(sys.argv[1]))[0].outcome)
"""


@pytest.mark.slow
def test_kills_at_any_moment_lose_no_row_and_double_none(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy_rows(200_000).write_parquet(place / "in" / "a.parquet")
    for wanted in (1, 11, 27):
        with subprocess.Popen([sys.executable, "-c", SLOWLY, str(place)], stdout=subprocess.DEVNULL) as process:
            until(lambda wanted=wanted: len(list((place / "out").glob(".*/*.json"))) >= wanted, "the parts", 120)  # type: ignore[misc]
            process.kill()
        assert written_visibly(place) == []
    monkeypatch.setattr(parts, "rows_of_block", lambda columns: 2_500)
    monkeypatch.setattr(parts, "BLOCKS", 2)
    (made,) = ask(place)
    assert (made.outcome, made.rows, made.rejected) == ("scored", 200_000, 0)
    found = predictions(place)
    assert found["_row"].to_list() == list(range(1, 200_001))
    wanted_chances = score.load("models:/toy@champion", pipelines.get("toy")).predict(toy_rows(200_000))["p_1"]
    assert found["p_1"].to_list() == wanted_chances.to_list()
    (row,) = ledger.list_scorings("toy")
    assert (row.state, row.rows, row.rejected) == ("done", 200_000, 0)


def test_parts_that_were_made_with_another_size_are_made_anew(place: Path) -> None:
    toy_rows(4_000).write_parquet(place / "in" / "a.parquet")
    told: list[int] = []

    def stop(rows: int) -> None:
        told.append(rows)
        if len(told) == 5:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as context, pytest.raises(KeyboardInterrupt):
        small_parts(context)
        ask(place, tell=stop)
    assert len(list((place / "out").glob(".*/*.json"))) == 2
    assert [(made.outcome, made.rows) for made in ask(place)] == [("scored", 4_000)]
    assert predictions(place)["_row"].to_list() == list(range(1, 4_001))


def test_an_input_that_another_process_scores_is_left_to_it(place: Path) -> None:
    toy_rows(50).write_parquet(place / "in" / "a.parquet")
    asked = batch.order(pipelines.get("toy"), str(place / "out"), "parquet", str(place / "in"))
    (look,), _ = batch.inputs(str(place / "in"))
    inner: list[Scored] = []
    outer = batch.score(asked, look, tell=lambda _: inner.append(batch.score(asked, look)))
    assert (outer.outcome, inner[0].outcome) == ("scored", "missed")
    assert "Another process" in (inner[0].reason or "")


def test_a_file_that_changes_while_it_is_read_is_scored_when_it_has_settled(place: Path) -> None:
    path = place / "in" / "a.parquet"
    toy_rows(50).write_parquet(path)
    (made,) = ask(place, tell=lambda _: toy_rows(60).write_parquet(path))
    assert (made.outcome, written(place)) == ("missed", {})
    assert [(made.outcome, made.rows) for made in ask(place)] == [("scored", 60)]


def test_features_that_fail_on_a_file_are_told_and_delay_no_other(place: Path) -> None:
    text = pipelines.path("toy").read_text()
    raising = text.replace('return pd.DataFrame({"x": rows["x"]', 'assert (rows["x"] != 7).all()\n    return pd.DataFrame({"x": rows["x"]')
    champion(place, version=2, definition=raising)
    toy_rows(5).with_columns(x=pl.lit(7.0)).write_parquet(place / "in" / "a.parquet")
    toy_rows(5).write_parquet(place / "in" / "b.parquet")
    made = ask(place)
    assert [part.outcome for part in made] == ["missed", "scored"]
    assert "features() of 'toy' raised AssertionError" in (made[0].reason or "")


def test_the_champions_own_contract_holds_also_when_the_file_was_edited_since(place: Path) -> None:
    text = pipelines.path("toy").read_text().replace("x: float = pa.Field(ge=-10, le=10)", "x: float = pa.Field(ge=-1, le=1)")
    champion(place, version=2, definition=text)
    toy_rows(4).with_columns(x=pl.Series([0.0, 0.5, 2.0, 3.0])).write_parquet(place / "in" / "a.parquet")
    assert [(made.rows, made.rejected) for made in ask(place)] == [(4, 2)]


def test_a_full_disk_is_said_and_with_space_again_the_work_goes_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy_rows(50).write_parquet(place / "in" / "a.parquet")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(parts, "_write", full)
        with pytest.raises(DiskFull, match="Free space and run again"):
            ask(place)
    assert [made.outcome for made in ask(place)] == ["scored"]


MEMORY = """
import sys
from pathlib import Path
from tests.tasks.test_batch import ask
from tests.benchmarks.measure import peak
made, = ask(Path(sys.argv[1]), Path(sys.argv[2]))
assert made.outcome == "scored", made
print(peak())
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_input(place: Path) -> None:
    peaks = []
    for count in (2, 6):
        whole = pl.concat([toy_rows(400_000, first=number * 400_000) for number in range(count)])
        path = place / f"{count}.parquet"
        whole.write_parquet(path, row_group_size=100_000)
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(place), str(path)], capture_output=True, text=True, check=True, timeout=200
        )
        peaks.append(float(done.stdout))
    assert peaks[1] < 1.3 * peaks[0], peaks


@given(st.lists(st.integers(1, 40), max_size=12), st.integers(1, 25))
def test_blocks_are_the_chunks_in_order_and_of_one_size_but_the_last(sizes: list[int], size: int) -> None:
    numbers = pl.Series("_row", range(sum(sizes)))
    ends = [sum(sizes[: place + 1]) for place in range(len(sizes))]
    chunks = [numbers.slice(end - count, count).to_frame() for end, count in zip(ends, sizes, strict=True)]
    found = list(parts.blocks(chunks, size))
    assert [value for block in found for value in block["_row"]] == numbers.to_list()
    assert all(block.height == size for block in found[:-1])
    assert all(1 <= block.height <= size for block in found)


@pytest.mark.parametrize(
    ("outer", "inner", "held"), [("s3://b/in", "s3://b/in/", True), ("s3://b", "s3://b/x", True), ("s3://b/in", "/in", False)]
)
def test_a_place_in_another_is_known_on_s3_too(outer: str, inner: str, held: bool) -> None:
    assert places.holds(outer, inner) is held


def test_a_link_does_not_hide_that_the_output_is_in_the_input(place: Path) -> None:
    (place / "link").symlink_to(place / "in")
    assert places.holds(str(place / "in"), str(place / "link" / "out"))


def test_scorings_are_pinned_once_on_every_kind_of_ledger(new_ledger: Callable[[], str]) -> None:
    def pin(version: int, output: str = "/out") -> tuple[int, int, str]:
        found = ledger.pin("p", "abc", version=version, output=output, form="csv", file="/in/a")
        return found.id, found.version, found.state

    first = pin(1)
    assert (pin(1), pin(2)) == (first, first)  # what was begun is finished first
    done = ledger.unpin(ledger.list_scorings("p")[0], rows=5, rejected=1, outputs=["/out/a"])
    assert (done.state, done.rows, done.rejected, done.outputs) == ("done", 5, 1, ("/out/a",))
    assert ledger.unpin(replace(done, state="running"), refused="late").state == "done"
    assert pin(1) == (first[0], 1, "done")
    second = pin(2)
    assert second[1:] == (2, "running")
    assert pin(1, "/elsewhere")[1:] == (1, "running")
    ledger.unpin(next(row for row in ledger.list_scorings("p") if row.id == second[0]), refused="why")
    assert pin(2) == second
    assert [row.version for row in ledger.list_scorings("p", limit=1)] == [1]


def test_the_order_goes_to_the_declared_place_or_one_in_the_home(place: Path, home: Path) -> None:
    asked = batch.order(pipelines.get("toy"), None, "parquet", str(place / "in"))
    assert asked.output == str(home / "scored" / "toy")


def test_two_pipelines_share_a_place_and_do_not_meet(place: Path) -> None:
    text = pipelines.path("toy").read_text().replace('name="toy"', 'name="twin"')
    (place / "twin").mkdir()
    (place / "twin" / "twin.py").write_text(text)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RATCHET_PIPELINES", f"{pipelines.path('toy').parent}:{place / 'twin'}")
        champion(place / "other", name="twin", rows=toy_rows(300, flip=True))
        toy_rows(20).write_parquet(place / "in" / "a.parquet")
        assert [ask(place, name=name)[0].outcome for name in ("toy", "twin")] == ["scored", "scored"]
    assert predictions(place).height == 40


def test_the_same_content_under_another_name_goes_on_with_what_was_begun(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_parts(monkeypatch)
    toy_rows(2_500).write_parquet(place / "in" / "b.parquet")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(place), "2"], capture_output=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL
    toy_rows(2_500).write_parquet(place / "in" / "a.parquet")
    assert [made.outcome for made in ask(place)] == ["scored", "known"]
    assert [path.name.partition("-")[0] for path in (place / "out" / "predictions").iterdir()] == ["b"] * 3
    assert not list((place / "out").glob(".*"))


def test_a_contract_that_has_a_column_named_like_a_prediction_is_told_so(place: Path, tmp_path: Path) -> None:
    text = pipelines.path("toy").read_text().replace("    after: float\n", "    after: float\n    p_1: float\n")
    champion(place, version=2, definition=text)
    toy_rows(5).with_columns(p_1=pl.lit(0.5)).write_parquet(place / "in" / "a.parquet")
    (made,) = ask(place)
    assert (made.outcome, "columns named ['p_1']" in (made.reason or "")) == ("missed", True)
