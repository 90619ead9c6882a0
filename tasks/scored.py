"""A call of batch scoring told as a document: which files, how many rows, by which version, where to."""

from tasks.document import Bullets, Document, Paragraph, Section, Table
from tasks.scorings import Batch, Scored

SHOWN = 200  # entries of a list that are told


def told(batch: Batch) -> Document:
    """Tell what became of every input."""
    version = f"version {batch.version}" if batch.version is not None else "no champion"
    lines = tuple(_line(file) for file in batch.files[:SHOWN])
    written = tuple(output for file in batch.files if file.outcome == "scored" for output in file.outputs)
    notes = (*batch.ignored, *(note for file in batch.files for note in file.notes))
    table = Table(("file", "outcome", "version", "predicted", "rejected", "why"), lines, frozenset({2, 3, 4}))
    sections = [Section("Files", (table, *_rest(len(batch.files))))] if lines else []
    sections += [Section("Written", (Bullets(written[:SHOWN]), *_rest(len(written))))] if written else []
    sections += [Section("Notes", (Bullets(notes[:SHOWN]), *_rest(len(notes))))] if notes else []
    place = f"{batch.pipeline} · {version} · {batch.input} to {batch.output}"
    return Document(f"Batch scoring of {batch.pipeline}", place, batch.sentence, tuple(sections))


def _rest(count: int) -> tuple[Paragraph, ...]:
    return (Paragraph(f"And {count - SHOWN:,} more."),) if count > SHOWN else ()


def _line(file: Scored) -> tuple[str, ...]:
    version = "-" if file.version is None else str(file.version)
    return (file.name, file.outcome, version, f"{file.predicted:,}", f"{file.rejected:,}", file.reason or "")
