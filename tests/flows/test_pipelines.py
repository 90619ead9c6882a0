"""Pipelines by name: which there are, and what a user is told whose file does not work."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows import pipelines
from tasks.errors import BadSetting, BrokenPipeline, UnknownPipeline

PACKAGE = "flows.pipelines."
SHIPPED = ("bike_sharing", "electricity", "visitors")
WHOLE = (Path(__file__).parent.parent / "pipelines" / "toy.py").read_text()

Add = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def _forget_own_pipelines() -> Iterator[None]:
    """Leave no module of a test's own directory behind, and none that another test imported before."""
    _forget()
    yield
    _forget()


def _forget() -> None:
    for name in [name for name in sys.modules if name.startswith(PACKAGE) and name.removeprefix(PACKAGE) not in SHIPPED]:
        del sys.modules[name]


@pytest.fixture
def directory(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of the user's own, named in RATCHET_PIPELINES."""
    own = tmp_path / "own"
    own.mkdir()
    monkeypatch.setenv("RATCHET_PIPELINES", str(own))
    return own


@pytest.fixture
def add(directory: Path) -> Add:
    """Write a pipeline file into the user's directory."""

    def write(name: str, text: str) -> Path:
        path = directory / f"{name}.py"
        path.write_text(text)
        return path

    return write


def churn(text: str = WHOLE) -> str:
    return text.replace('name="toy"', 'name="churn"')


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_pipeline_is_named_like_its_file(name: str, directory: Path) -> None:
    assert pipelines.get(name).name == name
    assert pipelines.path(name).stem == name


def test_names_lists_the_shipped_ones_and_the_users_own_without_importing_any(add: Add) -> None:
    add("churn", "raise RuntimeError('imported')")
    add("_private", "")
    assert pipelines.names() == ("bike_sharing", "churn", "electricity", "visitors")


def test_a_digest_is_that_of_the_files_bytes_and_needs_no_import(add: Add) -> None:
    path = add("churn", "this is no Python")
    assert pipelines.digest("churn") == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_users_file_has_one_identity(add: Add) -> None:
    path = add("churn", churn())
    spec = pipelines.get("churn")
    module = sys.modules["flows.pipelines.churn"]
    assert spec.features.__module__ == "flows.pipelines.churn"
    assert spec is pipelines.get("churn") is module.PIPELINE
    assert Path(module.__file__ or "") == pipelines.path("churn") == path
    assert "churn" not in sys.modules


def test_the_setting_is_read_again_on_each_call(add: Add, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add("churn", churn())
    first = pipelines.get("churn")
    other = tmp_path / "other"
    other.mkdir()
    (other / "churn.py").write_text(churn().replace("min_rows=50", "min_rows=70"))
    monkeypatch.setenv("RATCHET_PIPELINES", str(other))
    assert (first.gate.min_rows, pipelines.get("churn").gate.min_rows) == (50, 70)
    monkeypatch.delenv("RATCHET_PIPELINES")
    assert pipelines.names() == SHIPPED


def test_several_directories_are_read_and_asking_twice_changes_nothing(add: Add, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add("churn", churn())
    other = tmp_path / "other"
    other.mkdir()
    (other / "fraud.py").write_text(WHOLE.replace('name="toy"', 'name="fraud"'))
    monkeypatch.setenv("RATCHET_PIPELINES", f"{tmp_path / 'own'}{os.pathsep}{other}")
    assert pipelines.names() == pipelines.names() == ("bike_sharing", "churn", "electricity", "fraud", "visitors")
    assert len(pipelines.__path__) == 3
    assert pipelines.get("fraud").name == "fraud"


def test_an_unknown_name_lists_the_known_ones_the_nearest_and_where_to_put_a_file(directory: Path) -> None:
    with pytest.raises(UnknownPipeline, match="Did you mean 'electricity'") as caught:
        pipelines.get("electrcity")
    assert "bike_sharing, electricity, visitors" in str(caught.value)
    assert "RATCHET_PIPELINES" in str(caught.value)


@pytest.mark.parametrize("ask", [pipelines.path, pipelines.digest])
def test_path_and_digest_know_unknown_names_too(ask: Callable[[str], object], directory: Path) -> None:
    with pytest.raises(UnknownPipeline, match="Put a file nothing_like_it.py into"):
        ask("nothing_like_it")


def test_a_name_found_twice_is_refused_and_both_files_are_named(add: Add) -> None:
    path = add("electricity", churn())
    with pytest.raises(BrokenPipeline, match="Rename one") as caught:
        pipelines.names()
    assert str(path) in str(caught.value)
    assert str(Path(pipelines.__file__).parent / "electricity.py") in str(caught.value)


def test_a_directory_that_does_not_exist_is_a_bad_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RATCHET_PIPELINES", str(tmp_path / "nowhere"))
    with pytest.raises(BadSetting, match="Correct it or unset it") as caught:
        pipelines.names()
    assert "nowhere" in str(caught.value)


BROKEN = {
    "a syntax error": ("x = 1\nclass Rows(:\n", r"\(line 2\): SyntaxError", SyntaxError),
    "a module that is not there": ("\nimport no_such_module\n", r"\(line 2\): ModuleNotFoundError.*no_such_module", ModuleNotFoundError),
    "an error of its own": ("x = 1\n\nx / 0\n", r"\(line 3\): ZeroDivisionError", ZeroDivisionError),
    "a key misspelt": (
        WHOLE.replace("hindsight=", "hindsigt="),
        "no key 'hindsigt', did you mean 'hindsight'; it takes: name, kind, contract",
        TypeError,
    ),
    "a key of a part misspelt": (
        WHOLE.replace("min_train_rows=", "min_training_rows="),
        "Gate has no key 'min_training_rows', did you mean 'min_train_rows'; it takes: metric",
        TypeError,
    ),
    "a column that is not there": (
        WHOLE.replace('target="label"', 'target="lable"'),
        r"Pipeline.target names \['lable'\], which the contract does not have",
        ValueError,
    ),
    "no candidates": (WHOLE.replace("candidates=[", "candidates=[] and ["), "give at least one Candidate", ValueError),
}


@pytest.mark.parametrize(("text", "told", "cause"), BROKEN.values(), ids=BROKEN)
def test_a_file_that_does_not_import_is_told_with_file_line_and_cause(text: str, told: str, cause: type[Exception], add: Add) -> None:
    path = add("churn", churn(text))
    with pytest.raises(BrokenPipeline, match=told) as caught:
        pipelines.get("churn")
    assert str(path) in str(caught.value)
    assert type(caught.value.__cause__) is cause


def test_the_line_is_that_of_the_users_file_not_of_what_it_calls(add: Add) -> None:
    text = churn(WHOLE.replace("hindsight=", "hindsigt="))
    add("churn", text)
    line = text.splitlines().index("PIPELINE = Pipeline(") + 1
    with pytest.raises(BrokenPipeline, match=rf"\(line {line}\)"):
        pipelines.get("churn")


def test_a_file_can_be_put_right_and_asked_for_again(add: Add) -> None:
    path = add("churn", "x / 0")
    with pytest.raises(BrokenPipeline):
        pipelines.get("churn")
    path.write_text(churn())
    assert pipelines.get("churn").name == "churn"


@pytest.mark.parametrize("text", ["x = 1\n", "PIPELINE = {'name': 'churn'}\n"])
def test_a_file_without_a_pipeline_is_told_what_to_write(text: str, add: Add) -> None:
    add("churn", text)
    with pytest.raises(BrokenPipeline, match=r"expected `PIPELINE = Pipeline\(name='churn', ...\)`"):
        pipelines.get("churn")


def test_a_pipeline_of_another_name_is_told_to_be_named_like_its_file(add: Add) -> None:
    add("churn", WHOLE)
    with pytest.raises(BrokenPipeline, match="named 'toy'; name it 'churn', like its file"):
        pipelines.get("churn")


def test_listing_pipelines_imports_nothing_heavy() -> None:
    code = "import sys; from flows import pipelines; pipelines.names(); print(*sys.modules)"
    environ = {name: value for name, value in os.environ.items() if name != "RATCHET_PIPELINES"}
    root = Path(pipelines.__file__).parents[2]
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environ, cwd=root).stdout.split()
    assert not {"pandas", "sklearn", "pandera", "polars", "prefect", "mlflow"} & set(loaded)
