"""What the README says is there: every command, setting, target and file that it names, and its example runs."""

import re
from pathlib import Path

import pytest
import typer

from deployments import command
from flows import pipelines
from tasks import settings
from tasks.check import check

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_readme_is_short_and_names_the_two_commands_first() -> None:
    assert len(README.splitlines()) < 150
    assert README.index("make run") < README.index("make test") < 1500


def test_every_command_is_in_the_readme_and_every_command_there_exists() -> None:
    known = set(typer.main.get_command(command.app).commands)  # type: ignore[attr-defined]
    assert set(re.findall(r"ratchet (\w+)", README)) <= known
    assert all(re.search(rf"`[^`]*\b{name}\b", README) for name in known)


def test_every_setting_is_documented_where_the_readme_points_to() -> None:
    source = Path(settings.__file__).read_text()
    read = set(re.findall(r'env(?:\.get)?[\(,]\s*"?([A-Z_0-9]+)"', source)) | set(re.findall(r'_number\(env, "([A-Z_]+)"', source))
    assert read
    assert all(name in (settings.__doc__ or "") for name in read - {"AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION"})


def test_every_make_target_in_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"make (\w+)", README)) - {"needs", "to"}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_file_that_the_readme_names_exists() -> None:
    for path in re.findall(r"`((?:flows|tasks|tests|deployments|infra)/[\w/.]+)`", README):
        assert (ROOT / path).exists(), path


def test_the_readmes_pipeline_passes_its_own_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = re.search(r"```python\n# my_pipelines/churn.py\n(.*?)```", README, re.DOTALL)
    assert example
    (tmp_path / "churn.py").write_text(example[1])
    monkeypatch.setenv("RATCHET_PIPELINES", str(tmp_path))
    found = check(pipelines.get("churn"))
    assert all(finding.passed for finding in found), [finding for finding in found if not finding.passed]


def test_the_changelog_is_kept() -> None:
    assert "## Unreleased" in (ROOT / "CHANGELOG.md").read_text()
