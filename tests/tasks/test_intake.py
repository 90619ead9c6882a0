"""Taking in: every arrival ends in the lake or in quarantine with a reason, nothing is lost, nothing is there twice."""

import gzip
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pandera.polars
import polars as pl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as budget
from hypothesis import strategies as st

from flows import pipelines
from tasks import contract, formats
from tasks.errors import LedgerError, Unreadable
from tasks.feature import content_digest, ordered_rows
from tasks.ingest import stage
from tasks.observe import survey
from tasks.spec import Source
from tasks.stores import lake, ledger
from tests.landing import arrival, take_in, take_in_as, toy_rows


@pytest.fixture
def source(home: Path, new_ledger: Callable[[], str], tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def rows() -> pl.DataFrame:
    return lake.scan("toy").collect()


def quarantine() -> pl.DataFrame:
    return lake.scan("toy", "quarantine").collect()


def write(frame: pl.DataFrame, path: Path) -> None:
    path.write_text(frame.write_csv(datetime_format="%Y-%m-%dT%H:%M:%S"))


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".parquet", ".jsonl", ".ndjson", ".jsonl.gz"])
def test_every_format_gives_the_same_rows(source: Path, ending: str) -> None:
    frame, path = toy_rows(50), source / f"a{ending}"
    plain = source.parent / "plain"
    if ending.startswith(".csv"):
        write(frame, plain)
    elif ending == ".parquet":
        frame.write_parquet(plain)
    else:
        frame.write_ndjson(plain)
    path.write_bytes(gzip.compress(plain.read_bytes()) if ending.endswith(".gz") else plain.read_bytes())
    assert take_in(source).accepted == 50
    assert rows().sort("id").select(frame.columns).equals(frame.cast({"at": pl.Datetime("us")}))


def test_bad_rows_are_quarantined_with_column_rule_value_and_the_row_itself(source: Path) -> None:
    lines = toy_rows(5).write_csv().splitlines()
    lines[2] = lines[2].replace(lines[2].split(",")[2], "99")  # beyond the contract's range
    lines[3] = ",".join([*lines[3].split(",")[:2], "many", *lines[3].split(",")[3:]])
    lines[4] = ",".join([*lines[4].split(",")[:5], "perhaps"])
    (source / "a.csv").write_text("\n".join(lines) + "\n")
    assert take_in(source).accepted == 2
    found = quarantine().sort("_row")
    assert found.select("_row", "column", "rule", "value").rows() == [
        (2, "x", "less_than_or_equal_to(10)", "99.0"),
        (3, "x", "dtype(float64)", "many"),
        (4, "label", "isin(['yes', 'no'])", "perhaps"),
    ]
    assert '"x":"many"' in found["record"][1]


def test_infinities_are_refused_and_nan_is_missing(source: Path) -> None:
    frame = toy_rows(4).with_columns(x=pl.Series(["inf", "-Infinity", "NaN", "1.5"]))
    frame.write_csv(source / "a.csv")
    assert take_in(source).accepted == 1
    assert sorted(quarantine().select("rule").to_series()) == ["finite", "finite", "not_nullable"]


def test_whole_numbers_written_as_decimals_are_whole_numbers(source: Path) -> None:
    toy_rows(3).with_columns(pl.col("id").cast(pl.Float64)).write_csv(source / "a.csv")
    assert take_in(source).accepted == 3


def test_declared_imputation_fills_in_and_is_counted(source: Path) -> None:
    lines = toy_rows(3).write_csv().splitlines()
    cells = lines[1].split(",")
    (source / "a.csv").write_text("\n".join([lines[0], ",".join([*cells[:4], "", cells[5]]), *lines[2:], ""]))
    spec = replace(pipelines.get("toy"), contract=_after_may_be_missing())
    done = take_in_as(spec, source)
    assert done.imputed == {"after": 1}
    assert rows().sort("id")["after"][0] == 0.0


def _after_may_be_missing() -> object:
    import pandera.polars as pa

    class Loose(pipelines.get("toy").contract):  # type: ignore[misc]
        after: float = pa.Field(nullable=True)

    return Loose


WHOLE = {
    "cut short amid a line": (lambda text: text[: len(text) - 12], "cut short"),
    "another delimiter": (lambda text: text.replace(",", ";"), "Source\\(separator=';'\\)"),
    "empty": (lambda text: "", "empty"),
    "a header only": (lambda text: text.splitlines()[0] + "\n", "no row"),
    "a column missing": (lambda text: "\n".join(line.rpartition(",")[0] for line in text.splitlines()) + "\n", r"\['label'\] are missing"),
    "a column renamed": (lambda text: text.replace("label", "labels", 1), r"\['labels'\] instead: was a column renamed"),
    "a line too long": (lambda text: text + "1,2,3,4,5,6,7,8\n", "cannot be parsed as csv"),
}


@pytest.mark.parametrize("fault", WHOLE)
def test_a_file_that_cannot_be_parsed_is_quarantined_whole_and_delays_no_other(source: Path, fault: str) -> None:
    spoil, reason = WHOLE[fault]
    (source / "a.csv").write_text(spoil(toy_rows(20).write_csv()))
    write(toy_rows(20, first=100), source / "b.csv")
    assert take_in(source).accepted == 20
    assert arrival("a.csv").state == "quarantined"
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(arrival("a.csv").reason)
    assert arrival("b.csv").state == "ingested"
    entry = quarantine().row(0, named=True)
    assert (entry["rule"], entry["_row"]) == ("unreadable", None)


def test_text_that_is_not_utf8_is_quarantined_whole(source: Path) -> None:
    (source / "a.csv").write_bytes(toy_rows(3).write_csv().replace("green", "gr\xfcn").replace("red", "r\xf6t").encode("latin-1"))
    take_in(source)
    assert arrival("a.csv").state == "quarantined"


@pytest.mark.parametrize("name", ["a.parquet", "a.csv.gz", "a.jsonl"])
def test_a_truncated_file_of_any_format_is_quarantined_whole(source: Path, name: str) -> None:
    whole = source.parent / name
    if name.endswith("parquet"):
        toy_rows(100).write_parquet(whole)
    elif name.endswith("gz"):
        whole.write_bytes(gzip.compress(toy_rows(100).write_csv().encode()))
    else:
        toy_rows(100).write_ndjson(whole)
    (source / name).write_bytes(whole.read_bytes()[:-20])
    assert take_in(source).accepted == 0
    assert arrival(name).state == "quarantined"


def test_a_compressed_bomb_is_not_unpacked(source: Path) -> None:
    (source / "a.csv.gz").write_bytes(gzip.compress(b"0" * 50_000_000))
    take_in(source)
    assert "bomb" in (arrival("a.csv.gz").reason or "")


def test_extra_columns_are_left_out_and_said_so_and_order_does_not_matter(source: Path) -> None:
    frame = toy_rows(5).with_columns(extra=pl.lit(1))
    write(frame.select(reversed(frame.columns)), source / "a.csv")
    survey("toy", str(source))
    (pending,) = ledger.outstanding("toy")
    (staged,) = stage(pipelines.get("toy"), [pending], source.parent / "staged")
    assert staged.accepted == 5
    assert "['extra']" in staged.notes[0]


def test_a_contract_that_no_row_meets_quarantines_every_row_and_says_so(source: Path) -> None:
    toy_rows(10).with_columns(label=pl.lit("maybe")).write_csv(source / "a.csv")
    assert take_in(source).accepted == 0
    assert (arrival("a.csv").state, arrival("a.csv").rejected) == ("quarantined", 10)
    assert arrival("a.csv").reason == "No row meets the contract: isin(['yes', 'no']) in label (10)."
    assert quarantine().height == 10


def test_an_all_null_column_that_may_not_be_missing_refuses_the_rows(source: Path) -> None:
    toy_rows(4).with_columns(x=pl.lit(None)).write_csv(source / "a.csv")
    assert take_in(source).accepted == 0
    assert set(quarantine()["rule"]) == {"not_nullable"}


def test_pandera_cannot_be_switched_off_from_outside(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pandera.config.CONFIG.validation_enabled", False)
    typed, _ = contract.parse(toy_rows(2).with_columns(_row=pl.Series([1, 2]), x=pl.lit(99.0)), pipelines.get("toy").contract)
    assert contract.check(typed, pipelines.get("toy").contract).height == 2


def test_the_same_rows_under_another_name_are_taken_in_once(source: Path) -> None:
    write(toy_rows(20), source / "a.csv")
    take_in(source)
    write(toy_rows(20), source / "copy.csv")
    take_in(source)
    assert rows().height == 20
    assert arrival("copy.csv").state == "duplicate"


def test_rows_that_are_known_by_key_are_repeats_if_equal_and_quarantined_if_not(source: Path) -> None:
    write(toy_rows(20), source / "a.csv")
    take_in(source)
    later = pl.concat([toy_rows(20).tail(10), toy_rows(5, first=20)])
    write(later.with_columns(x=pl.when(pl.col("id") == 12).then(0.0).otherwise("x")), source / "b.csv")
    done = take_in(source)
    assert (done.accepted, done.repeated, done.rejected) == (5, 9, 1)
    assert rows()["id"].is_unique().all()
    assert quarantine().row(0, named=True)["rule"] == "key_conflict"
    assert arrival("b.csv").reason == "The key of 1 rows is known with other content."


def test_exact_duplicates_within_an_arrival_are_dropped_also_without_a_key(source: Path) -> None:
    write(pl.concat([toy_rows(10), toy_rows(10).head(3)]), source / "a.csv")
    done = take_in_as(replace(pipelines.get("toy"), key=()), source)
    assert (done.accepted, done.repeated) == (10, 3)


def test_new_content_under_a_known_name_replaces_the_old_rows_and_old_versions_stay_readable(source: Path) -> None:
    write(toy_rows(20), source / "a.csv")
    before = take_in(source).version
    write(toy_rows(20).with_columns(x=pl.lit(1.0)), source / "a.csv")
    assert take_in(source).accepted == 20
    assert set(rows()["x"]) == {1.0}
    assert lake.scan("toy", version=before).collect()["x"].n_unique() > 1


def test_a_rewrite_of_equal_length_with_its_old_time_put_back_is_noticed(source: Path) -> None:
    path = source / "a.csv"
    write(toy_rows(20), path)
    take_in(source)
    kept = path.stat()
    text = path.read_text()
    path.write_text(text.replace("yes", "no ", 1).replace("no ", " no", 1))
    os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert path.stat().st_size == kept.st_size
    assert len(survey("toy", str(source)).recorded) == 1


def test_a_file_that_changes_between_observation_and_reading_is_left_for_the_next_cycle(source: Path) -> None:
    write(toy_rows(20), source / "a.csv")
    survey("toy", str(source))
    (pending,) = ledger.outstanding("toy")
    write(toy_rows(30), source / "a.csv")
    (staged,) = stage(pipelines.get("toy"), [pending], source.parent / "staged")
    assert "is not the file that was observed any more" in (staged.missed or "")
    assert take_in(source).accepted == 30
    assert rows().height == 30


def test_a_file_that_has_just_been_written_waits_until_it_was_left_alone(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATCHET_SETTLE", "60")
    write(toy_rows(20), source / "a.csv")
    assert [look.name for look in survey("toy", str(source)).settling] == ["a.csv"]
    assert ledger.outstanding("toy") == ()
    monkeypatch.setenv("RATCHET_SETTLE", "0")
    assert [seen.name for seen in survey("toy", str(source)).recorded] == ["a.csv"]


def test_files_that_are_staged_together_keep_their_own_rows_entries_and_counts(source: Path) -> None:
    for number in range(6):
        frame = toy_rows(4, first=10 * number)
        if number % 2:
            frame = frame.with_columns(x=pl.when(pl.int_range(4) == number // 2).then(99.0).otherwise("x"))
        write(frame, source / f"{number}.csv")
    write(toy_rows(3, first=90).with_columns(x=pl.lit(99.0)), source / "6-all-bad.csv")
    (source / "7-broken.csv").write_text("<html>")
    take_in(source)
    assert {name: (arrival(name).accepted, arrival(name).rejected) for name in ("0.csv", "1.csv", "5.csv")} == {
        "0.csv": (4, 0),
        "1.csv": (3, 1),
        "5.csv": (3, 1),
    }
    assert {arrival("6-all-bad.csv").state, arrival("7-broken.csv").state} == {"quarantined"}
    places = rows().select(pl.col("_file").str.split("/").list.last(), "_row", "id").sort("id").rows()
    assert places == [(f"{n}.csv", row + 1, 10 * n + row) for n in range(6) for row in range(4) if not (n % 2 and row == n // 2)]
    bad = quarantine().select(pl.col("_file").str.split("/").list.last(), "_row").sort("_file", "_row").rows()
    assert bad == [("1.csv", 1), ("3.csv", 2), ("5.csv", 3), *(("6-all-bad.csv", row) for row in (1, 2, 3)), ("7-broken.csv", None)]


def test_a_broken_file_first_in_the_queue_delays_none_of_a_thousand_good_ones(source: Path) -> None:
    (source / "0000.csv").write_bytes(b"\xff\xfe\x00nonsense")
    frame = toy_rows(2000)
    for number in range(1000):
        write(frame.slice(2 * number, 2), source / f"{number + 1:04d}.csv")
    take_in(source)
    states = [part.state for part in reversed(ledger.history("toy"))]
    assert states == ["quarantined", *["ingested"] * 1000]
    assert rows().height == 2000


def forget(source: Path) -> None:
    """Make the ledger forget what became of everything, as if the process had died between the lake's commit and the ledger's."""
    with ledger.transaction() as connection:
        connection.exec_driver_sql("UPDATE cycles SET state = 'failed'")
        connection.exec_driver_sql("UPDATE arrivals SET state = 'pending', accepted = 0, rejected = 0, repeated = 0 WHERE NOT superseded")


def test_a_repeated_commit_changes_nothing_and_its_counts_are_found_again(source: Path) -> None:
    write(toy_rows(20), source / "a.csv")
    take_in(source)
    later = pl.concat([toy_rows(20).tail(10), toy_rows(5, first=20)])
    text = later.with_columns(x=pl.when(pl.col("id") == 12).then(0.0).otherwise("x")).write_csv(datetime_format="%Y-%m-%dT%H:%M:%S")
    (source / "b.csv").write_text(text.replace(",yes", ",maybe", 1))
    take_in(source)
    before, lake_before = arrival("b.csv"), rows().sort("id")
    assert (before.accepted, before.rejected) == (5, 2)
    forget(source)
    take_in(source)
    after = arrival("b.csv")
    assert rows().sort("id").equals(lake_before)
    assert (after.id, after.state) == (before.id, "ingested")
    assert (after.accepted, after.rejected, after.repeated) == (before.accepted, before.rejected, before.repeated)


REFUSING = {
    "sqlite": ("CREATE TRIGGER lost BEFORE UPDATE OF state ON arrivals WHEN NEW.state = '{}' BEGIN SELECT RAISE(ABORT, 'lost'); END",),
    "postgresql": (
        "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''lost''; END'",
        "CREATE TRIGGER lost BEFORE UPDATE OF state ON arrivals FOR EACH ROW WHEN (NEW.state = '{}') EXECUTE FUNCTION lose()",
    ),
}


@contextmanager
def no_more(state: str) -> Iterator[None]:
    """Have the ledger refuse to write that state of an arrival."""
    with ledger.transaction() as connection:
        kind = connection.dialect.name
        for statement in REFUSING[kind]:
            connection.exec_driver_sql(statement.format(state))
    yield
    with ledger.transaction() as connection:
        connection.exec_driver_sql("DROP TRIGGER lost" if kind == "sqlite" else "DROP TRIGGER lost ON arrivals")


def test_a_duplicate_whose_commit_was_not_recorded_stays_a_duplicate(source: Path) -> None:
    write(toy_rows(20), source / "a.csv")
    write(toy_rows(5, first=50), source / "b.csv")
    take_in(source)
    write(toy_rows(20), source / "b.csv")
    with no_more("duplicate"), pytest.raises(LedgerError, match="lost"):  # the copy's commit takes the rows of its old content out
        take_in(source)
    take_in(source)
    assert arrival("b.csv").state == "duplicate"
    assert sorted(rows()["id"]) == list(range(20))


def test_a_column_that_the_contract_gains_is_missing_in_older_rows(source: Path) -> None:
    class Wider(pipelines.get("toy").contract):  # type: ignore[misc]
        extra: float = pandera.polars.Field(nullable=True)

    write(toy_rows(20), source / "a.csv")
    version = take_in(source).version
    wider = replace(pipelines.get("toy"), contract=Wider)
    assert ordered_rows(wider, version)["extra"].null_count() == 20
    write(toy_rows(25).with_columns(extra=pl.lit(1.0)).tail(5), source / "b.csv")
    assert take_in_as(wider, source).accepted == 5
    assert rows()["extra"].null_count() == 20


def test_arrival_by_arrival_gives_bit_for_bit_what_all_at_once_gives(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_ledger: Callable[[], str]
) -> None:
    digests = []
    for way in ("one by one", "all at once"):
        new_ledger()
        monkeypatch.setenv("RATCHET_HOME", str(tmp_path / way))
        monkeypatch.setattr("tasks.settings.os.cpu_count", lambda: 2)
        for path in source.iterdir():
            path.unlink()
        for number in range(6):
            write(toy_rows(40, first=30 * number), source / f"{number}.csv")  # the last 10 keys come again, with other content
            if way == "one by one":
                take_in(source)
        version = take_in(source).version if way == "all at once" else lake.version("toy") or 0
        digests.append(content_digest(ordered_rows(pipelines.get("toy"), version), list(toy_rows(1).columns)))
    assert digests[0] == digests[1]


@budget(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=st.lists(st.text(st.characters(codec="utf-8", exclude_characters='\x00\r\n,"'), max_size=8), min_size=1, max_size=30))
def test_every_cell_is_either_a_value_of_its_type_or_an_entry(tmp_path: Path, cells: list[str]) -> None:
    path = tmp_path / "cells.csv"
    path.write_text("x\n" + "".join(f'"{cell}"\n' for cell in cells), encoding="utf-8")
    import pandera.polars as pa

    class Numbers(pa.DataFrameModel):
        x: float = pa.Field(nullable=True)

    (raw,) = formats.chunks(path, "cells.csv", ["x"], Source())
    typed, failures = contract.parse(raw, Numbers)
    assert typed.height == len(cells)
    for cell, value, row in zip(cells, typed["x"], typed["_row"], strict=True):
        named = row in failures["_row"].to_list()
        assert named == (cell != "" and value is None and cell.strip().lower() not in ("nan", "+nan", "-nan")) or value in (
            float("inf"),
            -float("inf"),
        )


@pytest.mark.parametrize(
    ("given", "wanted", "kept"),
    [
        (pl.Series([1.0, 1.5]), int, [1, None]),
        (pl.Series(["1.0", "1.5"]), int, [1, None]),
        (pl.Series([0, 1, 2]), bool, [False, True, None]),
        (pl.Series(["True", "0", "maybe"]), bool, [True, False, None]),
        (pl.Series([1_700_000_000_000]), datetime, [None]),
        (pl.Series([datetime(2024, 6, 1, 12)]).dt.replace_time_zone("Europe/Berlin"), datetime, [datetime(2024, 6, 1, 10)]),
        (pl.Series(["2024-06-01T12:00:00+02:00"]), datetime, [datetime(2024, 6, 1, 10)]),
        (pl.Series(["2024-06-01", "June"]), date, [date(2024, 6, 1), None]),
        (pl.Series([Decimal("1.25")]), float, [1.25]),
        (pl.Series(["a"], dtype=pl.Categorical), str, ["a"]),
    ],
)
def test_a_value_is_taken_over_exactly_or_is_an_entry(given: pl.Series, wanted: type, kept: list[object]) -> None:
    class Rows(pandera.polars.DataFrameModel):
        value: wanted = pandera.polars.Field(nullable=True)  # type: ignore[valid-type]

    typed, failures = contract.parse(pl.DataFrame({"_row": range(len(given)), "value": given}), Rows)
    assert typed["value"].to_list() == kept
    assert failures["_row"].to_list() == [place for place, value in enumerate(kept) if value is None]


def test_an_unknown_ending_is_never_parsed(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="Its ending '.pkl' is none of .csv"):
        list(formats.chunks(tmp_path / "a.pkl", "a.pkl", ["x"], Source()))
