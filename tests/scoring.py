"""A pipeline like the toy that says what is to be scored, under a name of the test's choice."""

from pathlib import Path

from tests.snare import TOY


def write(directory: Path, name: str, scoring: str = "Scoring(source=Source())") -> Path:
    """Write its file."""
    text = TOY.read_text().replace('name="toy"', f'name="{name}"').replace("Pipeline, Slice", "Pipeline, Scoring, Slice, Source")
    path = directory / f"{name}.py"
    path.with_suffix(".new").write_text(text.replace("    holdout=", f"    scoring={scoring},\n    holdout="))
    return path.with_suffix(".new").rename(path)
