"""The API: every form of a request gets the answers that the champion gives elsewhere, and what is wrong with one is said."""

import gzip
import io
import json
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from deployments.online import app
from deployments.online.service import Service
from flows import pipelines
from tasks import score
from tasks.errors import BadSetting
from tasks.served import answers_of
from tasks.services import Serving
from tasks.stores import journal, ledger
from tests.servers.online import enthrone
from tests.stored import amounts_rows, sorts_rows, store
from tests.waiting import until

ARROW = "application/vnd.apache.arrow.stream"
LIMITS = Serving(max_rows=50, max_bytes=20_000, timeout=2.0)
KINDS = {"sorts": sorts_rows, "amounts": amounts_rows}

MINE = '''
"""A regression that does as a column says."""

import time

import numpy as np
import pandas as pd
import pandera.polars as pa
from sklearn.base import BaseEstimator, RegressorMixin

from tasks.spec import Candidate, Gate, Holdout, Pipeline


class Rows(pa.DataFrameModel):
    """One row."""

    x: float = pa.Field(nullable=True)
    word: str = pa.Field(nullable=True)
    y: float


class Obedient(RegressorMixin, BaseEstimator):
    """Twice the number, unless the word says otherwise."""

    def fit(self, features, target):
        self.factor_ = 2.0
        return self

    def predict(self, features):
        if (features["word"] == "hang").any():
            time.sleep(20)
        if (features["word"] == "slow").any():
            time.sleep(2)
        if (features["word"] == "raise").any():
            raise ZeroDivisionError("secret row")
        made = self.factor_ * features["x"].fillna(0.5).to_numpy()
        return np.where(features["word"] == "endless", np.inf, made)

    def predict_interval(self, features):
        made = self.predict(features)
        return np.column_stack([made - 1, np.where(features["word"] == "open", np.inf, made + 1)])


def features(rows: pd.DataFrame) -> pd.DataFrame:
    """Give both."""
    if (rows["word"] == "broken").any():
        raise KeyError("secret row")
    return rows[["x", "word"]]


PIPELINE = Pipeline(
    name="mine", kind="regression", contract=Rows, target="y", features=features,
    candidates=[Candidate("plain", Obedient())], holdout=Holdout(rows=50), gate=Gate(metric="mae"),
)
'''


def client(name: str, limits: Serving = LIMITS) -> TestClient:
    spec = replace(pipelines.get(name), serving=limits)
    return TestClient(app.create(name, spec, "http://127.0.0.1:1", False), base_url="http://127.0.0.1", raise_server_exceptions=False)


@pytest.fixture(params=sorted(KINDS))
def served(request: pytest.FixtureRequest, home: Path, tmp_path: Path) -> Iterator[tuple[str, TestClient, pl.DataFrame]]:
    rows = KINDS[request.param]()
    enthrone(store(request.param, rows, tmp_path / "stored").candidate, 1)
    with client(request.param) as found:
        yield request.param, found, rows.head(40)


@pytest.fixture
def mine(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A champion that does as it is told."""
    monkeypatch.setenv("RATCHET_PIPELINES", str(tmp_path / "own"))
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.py").write_text(MINE)
    rows = pl.DataFrame({"x": [place / 7 for place in range(200)], "word": ["a", "b"] * 100, "y": [2 * place / 7 for place in range(200)]})
    enthrone(store("mine", rows, tmp_path / "stored", unseen=60).candidate, 1)
    with client("mine") as found:
        yield found


def as_json(rows: pl.DataFrame) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = json.loads(json.dumps(rows.to_dict(as_series=False), default=str))
    return columns


def predicted(reply: httpx.Response) -> list[dict[str, Any]]:
    assert reply.status_code == 200, reply.text
    return [{name: value for name, value in row.items() if name != "id"} for row in reply.json()["predictions"]]


def posted(found: TestClient, rows: list[dict[str, Any]]) -> httpx.Response:
    return found.post("/v1/predict", json={"rows": rows})


def problem(reply: httpx.Response) -> tuple[int, str, str]:
    error = reply.json()["error"]
    return reply.status_code, error["code"], error["message"]


def test_every_form_of_a_request_gets_the_answers_that_python_gets(served: tuple[str, TestClient, pl.DataFrame]) -> None:
    name, found, rows = served
    expected = score.load(f"models:/{name}@champion", pipelines.get(name)).predict(rows).to_dicts()
    columns = as_json(rows)
    arrow = io.BytesIO()
    rows.write_ipc_stream(arrow)
    asked = [
        found.post("/v1/predict", json={"columns": columns}),
        posted(found, [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]),
        found.post("/v1/predict", content=rows.write_csv(), headers={"content-type": "text/csv; charset=utf-8"}),
        found.post("/v1/predict", content=arrow.getvalue(), headers={"content-type": ARROW}),
    ]
    assert [predicted(reply) for reply in asked] == [expected] * 4  # to the last bit


def test_one_row_gets_what_it_gets_among_others(served: tuple[str, TestClient, pl.DataFrame]) -> None:
    name, found, rows = served
    columns = as_json(rows)
    alone = [
        predicted(found.post("/v1/predict", json={"columns": {key: values[place : place + 1] for key, values in columns.items()}}))[0]
        for place in range(5)
    ]
    together = predicted(found.post("/v1/predict", json={"columns": columns}))[:5]
    for one, other in zip(alone, together, strict=True):
        assert one["predicted"] == (other["predicted"] if name == "sorts" else pytest.approx(other["predicted"], rel=1e-12))


def test_a_reply_says_which_version_and_decision_made_it_and_names_every_prediction(served: tuple[str, TestClient, pl.DataFrame]) -> None:
    name, found, rows = served
    reply = found.post("/v1/predict", json={"columns": as_json(rows.head(3))})
    told = reply.json()
    assert (told["pipeline"], told["version"], told["decision"], reply.headers["x-model-version"]) == (name, 1, 1, "1")
    assert [row["id"] for row in told["predictions"]] == [f"{told['request']}-{place}" for place in range(3)]
    assert reply.headers["x-request-id"] == told["request"]
    assert abs(int(told["request"][:12], 16) / 1000 - time.time()) < 60


def test_answers_come_as_arrow_or_csv_where_that_is_accepted(served: tuple[str, TestClient, pl.DataFrame]) -> None:
    _, found, rows = served
    columns = as_json(rows)
    expected = found.post("/v1/predict", json={"columns": columns}).json()["predictions"]
    arrow = pl.read_ipc_stream(found.post("/v1/predict", json={"columns": columns}, headers={"accept": ARROW}).content)
    text = pl.read_csv(found.post("/v1/predict", json={"columns": columns}, headers={"accept": "text/csv"}).content)
    for table in (arrow, text):
        assert table["predicted"].to_list() == [row["predicted"] for row in expected]
        assert table["version"].unique().to_list() == [1]


def test_the_example_of_the_description_can_be_sent_as_it_is(served: tuple[str, TestClient, pl.DataFrame]) -> None:
    name, found, _ = served
    body = found.get("/openapi.json").json()["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["application/json"]
    row = body["schema"]["oneOf"][0]["properties"]["rows"]["items"]
    spec = pipelines.get(name)
    assert spec.target not in row["properties"]
    assert set(row["required"]) == set(row["properties"])
    assert found.post("/v1/predict", json=body["example"]).status_code == 200


def test_the_docs_page_needs_no_network(served: tuple[str, TestClient, pl.DataFrame]) -> None:
    _, found, _ = served
    page = found.get("/docs").text
    assert "http://" not in page
    assert "https://" not in page
    script = page.split('<script src="')[1].split('"')[0]
    assert found.get(script).status_code == 200


def test_the_model_is_told_with_its_inputs(served: tuple[str, TestClient, pl.DataFrame]) -> None:
    name, found, _ = served
    told = found.get("/v1/model").json()
    assert (told["pipeline"], told["version"], told["decision"], told["candidate"]) == (name, 1, 1, pipelines.get(name).candidates[0].name)
    assert pipelines.get(name).target not in told["inputs"]
    assert "model_uri" not in told


def test_figures_are_counted_by_version_and_status(mine: TestClient) -> None:
    posted(mine, [{"x": 1.0, "word": "a"}] * 3)
    posted(mine, [{"x": "much", "word": "a"}])
    text = mine.get("/metrics").text.replace(f',worker="{os.getpid()}"', "")
    assert 'ratchet_requests_total{pipeline="mine",status="200",version="1"} 1.0' in text
    assert 'ratchet_requests_total{pipeline="mine",status="422",version="1"} 1.0' in text
    assert 'ratchet_rows_total{pipeline="mine",version="1"} 3.0' in text
    assert 'ratchet_request_seconds_count{pipeline="mine"} 2.0' in text


def test_missing_values_and_words_never_seen_are_answered_as_in_training(mine: TestClient) -> None:
    assert [row["predicted"] for row in predicted(posted(mine, [{"x": None, "word": None}, {"x": 3, "word": "never seen"}]))] == [1.0, 6.0]


def test_rows_that_break_the_contract_are_named(mine: TestClient) -> None:
    reply = posted(mine, [{"x": 1.0, "word": "a"}, {"x": "much", "word": "a"}])
    assert problem(reply)[:2] == (422, "contract")
    assert reply.json()["error"]["faults"] == [{"row": 1, "column": "x", "rule": "dtype(float64)", "value": "much"}]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("{", "no JSON"),
        ("[]", "rows"),
        ('{"rows": [], "columns": {}}', "either"),
        ('{"rows": {}}', "list of objects"),
        ('{"rows": [1]}', "list of objects"),
        ('{"rows": []}', "no row"),
        ('{"columns": [1]}', "object of lists"),
        ('{"columns": {"x": [1], "word": []}}', "different lengths"),
        ('{"columns": {"x": [1]}}', "lack"),
        ('{"rows": [{"x": 1}]}', "lacks 'word'"),
        ('{"rows": [{"x": NaN, "word": "a"}]}', "no JSON"),
        ('{"rows": [{"x": {"a": 1}, "word": "a"}]}', "list or an object"),
    ],
)
def test_a_body_that_is_not_as_it_should_be_is_refused_with_the_reason(mine: TestClient, body: str, why: str) -> None:
    status, code, message = problem(mine.post("/v1/predict", content=body, headers={"content-type": "application/json"}))
    assert (status, code) == (422, "contract")
    assert why in message


def test_more_rows_or_bytes_than_allowed_are_refused(mine: TestClient) -> None:
    assert problem(posted(mine, [{"x": 1.0, "word": "a"}] * 51))[:2] == (413, "too_much")
    assert problem(posted(mine, [{"x": 1.0, "word": "a" * 30_000}]))[:2] == (413, "too_much")

    def drips() -> Iterator[bytes]:  # no Content-Length says how much is to come
        for _ in range(100):
            yield b" " * 1000

    assert problem(mine.post("/v1/predict", content=drips(), headers={"content-type": "application/json"}))[:2] == (413, "too_much")
    assert problem(mine.post("/v1/predict", content="x,word\n" + "1,a\n" * 51, headers={"content-type": "text/csv"}))[:2] == (
        413,
        "too_much",
    )


@pytest.mark.parametrize("kind", ["text/plain", "", "multipart/form-data", "application/x-python-pickle"])
def test_a_body_of_another_kind_is_not_read(mine: TestClient, kind: str) -> None:
    assert problem(mine.post("/v1/predict", content=b"x", headers={"content-type": kind}))[:2] == (415, "unsupported")


def test_an_arrow_stream_that_could_grow_is_not_read(mine: TestClient) -> None:
    table = pa.table({"x": [0.0] * 100, "word": ["a"] * 100})
    for compression, status in (("zstd", 415), ("lz4", 415), (None, 413)):
        made = io.BytesIO()
        with pa.ipc.new_stream(made, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
            writer.write_table(table)
        assert mine.post("/v1/predict", content=made.getvalue(), headers={"content-type": ARROW}).status_code == status


def test_an_arrow_stream_that_states_more_rows_than_it_may_is_not_expanded(mine: TestClient) -> None:
    table = pa.table({"x": pa.nulls(10**8), "word": pa.nulls(10**8)})  # a few hundred bytes
    made = io.BytesIO()
    with pa.ipc.new_stream(made, table.schema) as writer:
        writer.write_table(table)
    assert problem(mine.post("/v1/predict", content=made.getvalue(), headers={"content-type": ARROW}))[:2] == (413, "too_much")


@pytest.mark.parametrize("words", [pa.array([[1]]), pa.array([b"x"]), pa.array([{"a": 1}]), pa.array([b"abcd"], pa.binary(4))])
def test_an_arrow_column_of_a_type_that_is_not_read_is_refused(mine: TestClient, words: pa.Array) -> None:
    made = io.BytesIO()
    table = pa.table({"x": [1.0], "word": words})
    with pa.ipc.new_stream(made, table.schema) as writer:
        writer.write_table(table)
    assert problem(mine.post("/v1/predict", content=made.getvalue(), headers={"content-type": ARROW}))[:2] == (422, "contract")


@pytest.mark.parametrize("text", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())])
def test_every_form_of_text_that_arrow_has_is_read(mine: TestClient, text: pa.DataType) -> None:
    made = io.BytesIO()
    table = pa.table({"word": pa.array(["a", "a text of more than twelve bytes"]).cast(text), "x": [1.0, 2.0]})
    with pa.ipc.new_stream(made, table.schema) as writer:
        writer.write_table(table)
    reply = mine.post("/v1/predict", content=made.getvalue(), headers={"content-type": ARROW})
    assert [row["predicted"] for row in predicted(reply)] == [2.0, 4.0]


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_csv_that_could_grow_is_not_read(mine: TestClient, pack: Callable[[bytes], bytes]) -> None:
    packed = pack(b"x,word\n" + b"1,a\n" * 40)
    assert problem(mine.post("/v1/predict", content=packed, headers={"content-type": "text/csv"}))[:2] == (415, "unsupported")


def test_csv_with_more_columns_than_any_table_is_not_parsed(mine: TestClient) -> None:
    reply = mine.post("/v1/predict", content=b"x,word" + b"," * 12_000 + b"\n1,a\n", headers={"content-type": "text/csv"})
    assert problem(reply)[:2] == (422, "contract")
    assert "names more than" in problem(reply)[2]


@pytest.mark.parametrize("body", [b"", b"junk", b"\xff" * 200, b"\xff\xff\xff\xff\x10\x00\x00\x00" + b"\x01" * 64])
def test_what_is_no_arrow_stream_is_refused(mine: TestClient, body: bytes) -> None:
    assert problem(mine.post("/v1/predict", content=body, headers={"content-type": ARROW}))[:2] == (422, "contract")


def test_a_figure_that_is_not_finite_is_not_passed_on(mine: TestClient) -> None:
    assert problem(posted(mine, [{"x": 1.0, "word": "endless"}]))[:2] == (422, "undefined")


def test_a_prediction_comes_with_its_interval_where_the_model_has_one(mine: TestClient) -> None:
    assert predicted(posted(mine, [{"x": 1.0, "word": "a"}, {"x": 3.0, "word": "b"}])) == [
        {"predicted": 2.0, "low": 1.0, "high": 3.0},
        {"predicted": 6.0, "low": 5.0, "high": 7.0},
    ]
    assert problem(posted(mine, [{"x": 1.0, "word": "open"}]))[:2] == (422, "undefined")


def test_an_interval_is_logged_with_its_prediction(mine: TestClient) -> None:
    posted(mine, [{"x": 1.0, "word": "a"}])
    mine.app.app.state.service.stop()  # type: ignore[attr-defined]
    rows = journal.scan("mine").collect()
    assert rows.select("_predicted", "_low", "_high").row(0) == (2.0, 1.0, 3.0)
    assert answers_of(rows).columns == ["predicted", "low", "high"]


def test_a_model_or_features_that_fail_tell_nothing_of_the_rows(mine: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    replies = [posted(mine, [{"x": 1.0, "word": word}]) for word in ("raise", "broken")]
    assert [problem(reply)[:2] for reply in replies] == [(500, "model"), (422, "features")]
    assert "secret" not in caplog.text + "".join(reply.text for reply in replies)
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.slow
def test_requests_that_fail_or_hang_keep_no_other_from_its_answer(mine: TestClient) -> None:
    outcomes: dict[str, list[int]] = {}

    def ask(word: str) -> None:
        outcomes.setdefault(word, []).append(posted(mine, [{"x": 1.0, "word": word}]).status_code)

    threads = [threading.Thread(target=ask, args=(word,)) for word in ["hang", *["raise", "good"] * 10]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes["hang"] == [504]
    assert set(outcomes["raise"]) <= {500, 504}
    ask("good")
    assert outcomes["good"][-1] == 200
    assert mine.get("/readyz").json()["hung"] == 1


def test_a_server_without_a_champion_lives_and_is_not_ready(home: Path) -> None:
    with client("toy") as found:
        assert found.get("/healthz").status_code == 200
        assert found.get("/readyz").status_code == 503
        assert found.get("/v1/model").status_code == 503
        assert problem(posted(found, [{}]))[:2] == (503, "not_ready")


def test_more_requests_at_a_time_than_allowed_are_turned_away_at_once(home: Path, tmp_path: Path) -> None:
    enthrone(store("sorts", sorts_rows(), tmp_path / "stored").candidate, 1)
    guard = app.create("sorts", replace(pipelines.get("sorts"), serving=Serving(concurrency=1)), "http://127.0.0.1:1", False)
    with TestClient(guard, base_url="http://127.0.0.1") as found:
        guard.active = 1
        reply = posted(found, [{"width": 1.0, "height": 1.0}])
        assert (problem(reply)[:2], reply.headers["retry-after"]) == ((503, "busy"), "1")
        guard.active = 0
        assert posted(found, [{"width": 1.0, "height": 1.0}]).status_code == 200


def test_another_path_or_method_is_told_in_the_same_form(mine: TestClient) -> None:
    assert problem(mine.get("/v1/else"))[0] == 404
    assert problem(mine.get("/v1/predict"))[0] == 405


def test_only_who_has_a_token_is_answered_and_tokens_change_without_a_restart(mine: TestClient, home: Path) -> None:
    def asked(token: str) -> int:
        return mine.get("/v1/model", headers={"authorization": f"Bearer {token}"}).status_code

    def write(text: str) -> None:
        (home / "tokens.new").write_text(text)
        (home / "tokens.new").chmod(0o600)
        (home / "tokens.new").replace(home / "tokens")

    write("anna " + "a" * 20 + "\n# a comment\nbert " + "b" * 20 + "\n")
    assert [asked("a" * 20), asked("b" * 20), asked("c" * 20), asked("")] == [200, 200, 401, 401]
    assert mine.get("/v1/model").status_code == 401
    assert mine.get("/metrics").status_code == 401
    assert mine.get("/healthz").status_code == 200
    write("bert " + "n" * 20 + "\n")
    assert [asked("a" * 20), asked("b" * 20), asked("n" * 20)] == [401, 401, 200]
    (home / "tokens").chmod(0o644)
    assert asked("n" * 20) == 401, "a file that others can read lets nobody in"


def test_a_page_that_names_itself_as_this_machine_is_not_answered(mine: TestClient) -> None:
    assert problem(mine.get("/v1/model", headers={"host": "evil.example:8000"}))[:2] == (421, "host")


def test_what_the_ledger_knows_of_a_server_is_gone_when_it_ends(home: Path, tmp_path: Path) -> None:
    enthrone(store("sorts", sorts_rows(), tmp_path / "stored").candidate, 1)
    with client("sorts") as found:
        service: Service = found.app.app.state.service  # type: ignore[attr-defined]
        told = until(lambda: ledger.servers("sorts"), "the ledger is told")
        assert [(one.server, one.state["version"]) for one in told] == [(service.server, 1)]
    assert ledger.servers("sorts") == ()
    assert [(step.step, step.version) for step in ledger.steps("sorts")] == [("served", 1)]


def test_predictions_are_plain_numbers(mine: TestClient) -> None:
    (row,) = predicted(posted(mine, [{"x": 0.1, "word": "a"}]))
    assert row == {"predicted": 0.2, "low": -0.8, "high": 1.2}


def test_who_has_no_token_learns_of_a_server_only_whether_it_is_ready(mine: TestClient, home: Path) -> None:
    assert "ledger" in mine.get("/readyz").json()
    (home / "tokens").write_text("anna " + "a" * 20)
    (home / "tokens").chmod(0o600)
    assert mine.get("/readyz").json() == {"ready": True, "version": 1}
    assert "ledger" in mine.get("/readyz", headers={"authorization": "Bearer " + "a" * 20}).json()


@pytest.mark.parametrize("content", [b"\xff\xfe nonsense", b"anna short", b"anna"])
def test_a_file_of_tokens_that_cannot_be_used_lets_nobody_in_and_starts_no_server(mine: TestClient, home: Path, content: bytes) -> None:
    (home / "tokens").write_bytes(content)
    (home / "tokens").chmod(0o600)
    assert problem(mine.get("/v1/model", headers={"authorization": "Bearer short"}))[:2] == (401, "unauthorized")
    with pytest.raises(BadSetting, match="tokens"):
        client("mine")


def test_a_private_column_has_no_real_value_in_the_example(home: Path, tmp_path: Path) -> None:
    rows = sorts_rows()
    enthrone(store("sorts", rows, tmp_path / "stored").candidate, 1)
    for private in ((), ("width",)):
        with client("sorts", replace(LIMITS, private=private)) as found:
            body = found.get("/openapi.json").json()["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["application/json"]
            shown = body["example"]["rows"][0]["width"]
        assert (shown in rows["width"].to_list()) == (not private)


def test_rows_that_were_refused_are_not_counted_as_predicted(mine: TestClient) -> None:
    posted(mine, [{"x": 1.0, "word": "endless"}] * 7)
    posted(mine, [{"x": 1.0, "word": "a"}] * 2)
    (line,) = (line for line in mine.get("/metrics").text.splitlines() if line.startswith("ratchet_rows_total"))
    assert line.endswith(" 2.0")
