"""Models from their verified local copies: without a server, without MLflow, and with the definition that came with them."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from tasks import serving
from tasks.errors import ModelRejected, Unreachable
from tasks.stores import kept, models
from tests.landing import toy_rows
from tests.stored import Stored, amounts_rows, store

ROOT = Path(kept.__file__).parents[2]


@pytest.fixture
def toy(home: Path, tmp_path: Path) -> Stored:
    return store("toy", toy_rows(300), tmp_path / "stored")


def test_without_a_copy_and_a_server_nothing_is_made_in_the_working_directory(
    toy: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(kept.place(toy.candidate.sha256))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(Unreachable, match="No MLflow server is named that could give the files of models:/m-0"):
        models.load(toy.candidate)
    assert list((tmp_path / "here").iterdir()) == []


def edited(stored: Stored, text: str) -> Stored:
    """Keep the same model with another definition, under its own digest."""
    place = kept.place(stored.candidate.sha256)
    other = Path(shutil.copytree(place, place.with_name("edited")))
    (other / "pipeline.py").write_text(text)
    sha256 = kept.digest(other)
    other.rename(kept.place(sha256))
    return replace(stored, candidate=replace(stored.candidate, sha256=sha256))


def test_a_model_brings_its_definition_and_signature_and_loading_changes_no_byte(toy: Stored) -> None:
    for _ in range(2):
        loaded = models.load(toy.candidate)
        assert loaded.columns == toy.prepared.columns
        assert (loaded.pipeline.name, loaded.pipeline is toy.pipeline) == ("toy", False)
        assert serving.predict(loaded, toy_rows(20)).columns == ["predicted", "p_1"]
        assert kept.verified(toy.candidate.sha256)


def test_a_kept_model_is_loaded_without_mlflow(toy: Stored, home: Path) -> None:
    code = (
        "import sys, json; from tasks.stores import models; from tasks.records import Champion;"
        f"models.load(Champion(**{vars(toy.candidate)!r})); print('mlflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={"RATCHET_HOME": str(home)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_a_signature_is_read_as_mlflow_reads_it(toy: Stored) -> None:
    from mlflow.models import Model

    place = kept.place(toy.candidate.sha256)
    names = {"double": "float64", "string": "str"}
    theirs = {column.name: names[column.type.name] for column in Model.load(str(place)).get_input_schema().inputs}
    assert kept.signature(place / "MLmodel") == theirs


@pytest.mark.parametrize("text", ["", "signature: null", 'signature: {inputs: \'[{"name": "x", "type": "binary"}]\'}', "a: [", "- 1"])
def test_a_model_without_a_usable_signature_is_rejected(tmp_path: Path, text: str) -> None:
    (tmp_path / "MLmodel").write_text(text)
    with pytest.raises(ModelRejected, match="has no signature"):
        kept.signature(tmp_path / "MLmodel")


@pytest.mark.parametrize("damage", ["truncated", "another definition", "gone"])
def test_bytes_that_are_not_those_of_the_digest_are_not_loaded(toy: Stored, damage: str) -> None:
    place = kept.place(toy.candidate.sha256)
    if damage == "truncated":
        (place / "model.skops").write_bytes((place / "model.skops").read_bytes()[:-100])
    elif damage == "another definition":
        (place / "pipeline.py").write_text((place / "pipeline.py").read_text() + "# changed")
    else:
        shutil.rmtree(place)
    with pytest.raises(ModelRejected, match="is not there, or its files are not those of digest"):
        kept.load(toy.candidate)


def test_a_definition_that_does_not_import_is_rejected_each_time(toy: Stored) -> None:
    broken = edited(toy, "import pandas\nPIPELINE = 1 / 0\n")
    for _ in range(2):
        with pytest.raises(ModelRejected, match="ZeroDivisionError"):
            kept.load(broken.candidate)
    empty = edited(toy, "features = None\n")
    for _ in range(2):
        with pytest.raises(ModelRejected, match="defines no PIPELINE"):
            kept.load(empty.candidate)


def test_what_a_model_has_of_its_own_file_comes_from_the_text_that_travelled(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    text = (Path(__file__).parents[2] / "pipelines" / "amounts.py").read_text().replace('name="amounts"', 'name="doubled"')
    text = text.replace('Candidate("ridge", Ridge(), search={"alpha": [0.1, 1000.0]}, trials=2)', 'Candidate("ridge", estimator)')
    text = text.replace(
        "PIPELINE =",
        "def double(values):\n    return values * 2\n\n\nestimator = make_pipeline(FunctionTransformer(double), Ridge())\nPIPELINE =",
    )
    imports = f"from {make_pipeline.__module__} import make_pipeline\nfrom {FunctionTransformer.__module__} import FunctionTransformer\n"
    (own / "doubled.py").write_text(text.replace("import pandas as pd\n", f"import pandas as pd\n{imports}"))
    monkeypatch.setenv("RATCHET_PIPELINES", str(own))
    stored = store("doubled", amounts_rows(), tmp_path / "stored")
    rows = amounts_rows().head(5)
    before = serving.predict(kept.load(stored.candidate), rows)
    (own / "doubled.py").write_text("raise RuntimeError('the file has changed since')\n")
    for name in [name for name in sys.modules if name.startswith("flows.pipelines.") and "doubled" in name]:
        monkeypatch.delitem(sys.modules, name)
    assert serving.predict(kept.load(stored.candidate), rows).equals(before)


def test_types_of_other_modules_are_refused() -> None:
    with pytest.raises(ModelRejected, match="may not be loaded"):
        kept.allowed(["sklearn.linear_model._ridge.Ridge", "os.system"])
    assert kept.types_of(Ridge()) == []
