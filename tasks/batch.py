"""Batch: predict the rows of files with the champion, in bounded memory, and put the predictions where they are wanted, once.

Every row is held against the contract first, as far as it is about what is known when a prediction is made: the target and what is known
only afterwards may be there or not. Rows that break it are put beside the predictions, with column, rule and value. An input is scored once
by a model version into a place, and with one version from its first row to its last; the ledger knows which.
"""

import errno
import functools
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import contract, formats, frames, parts, predicted, settings
from tasks.errors import BrokenPipeline, Changed, DiskFull, Unreadable, UserError
from tasks.predicted import Held
from tasks.records import Champion, Look
from tasks.scorings import FORMS, Form, Pinned, Scored
from tasks.spec import Pipeline, Source
from tasks.stores import files, kept, ledger, models, places

logger = logging.getLogger(__name__)

Tell = Callable[[int], None]


@dataclass(frozen=True)
class Order:
    """What is asked for: predictions by the champion of a pipeline, in a form, put into a place. `source` says how CSV is read."""

    pipeline: Pipeline
    champion: Champion
    output: str
    form: Form
    source: Source


def order(pipeline: Pipeline, output: str | None, form: str, given: str) -> Order:
    """Say what is asked for, with the champion that there is now; without `output` it is the pipeline's, or `scored/<pipeline>` in the home.

    Raises:
        UserError: if there is no champion, the form is not known, or the output would be among the inputs `given`.
    """
    if form not in FORMS:
        raise UserError(f"The form {form!r} is none of {', '.join(FORMS)}.")
    champion = ledger.champion(pipeline.name)
    if champion is None:
        raise UserError(
            f"{pipeline.name!r} has no champion yet, so there is nothing to predict with. Train one: `ratchet run {pipeline.name}`."
        )
    declared = pipeline.scoring.output if pipeline.scoring else None
    place = places.normal(output or declared or str(settings.read().home / "scored" / pipeline.name))
    if places.holds(given, place):
        raise UserError(f"The output {place} is in the input {given}: what is written would be read as input. Name another output.")
    return Order(pipeline, champion, place, form, pipeline.scoring.source if pipeline.scoring else pipeline.source)


def inputs(uri: str) -> tuple[tuple[Look, ...], tuple[str, ...]]:
    """List the input files at an address, in the order of their names, and what is ignored there, and why; one just written is waited for.

    Raises:
        SourceUnavailable: if there is nothing at that address, or it may not be listed.
    """
    entries = list(files.look(uri))
    looks, ignored = [part for part in entries if isinstance(part, Look)], [part for part in entries if isinstance(part, str)]
    quiet, now = settings.read().settle, time.time()
    restless = [look.uri for look in looks if not files.settled(look, now=now, quiet=quiet)]
    if restless:
        time.sleep(quiet)
        again = {part.uri: part for part in files.look_again(uri, restless) if isinstance(part, Look)}
        looks = [again.get(look.uri, look) for look in looks]
    return tuple(looks), tuple(ignored)


def score(asked: Order, look: Look, sha256: str | None = None, tell: Tell = lambda _: None) -> Scored:
    """Score one file; with `sha256`, only if it has that content. `tell` hears of every block how many rows it has.

    Raises:
        DiskFull: if there is no space; what was finished is kept for the next time.
        UserError: if the output cannot be written, or S3 does not answer (SourceUnavailable).
        ModelRejected, Unreachable: if the model cannot be loaded.
    """
    began, blank = time.monotonic(), Scored(look.name, look.uri, "missed")
    try:
        if not files.settled(look, now=time.time(), quiet=settings.read().settle):
            raise Changed("It is still being written.")
        fetched = files.fetch(look, files.spool(f"{asked.pipeline.name}.scoring"))
        if sha256 not in (None, fetched.sha256):
            raise Changed("It is not the file that was observed any more.")
    except (Changed, PermissionError) as error:
        return replace(blank, reason=str(error))
    try:
        made = _once(asked, look, fetched, tell)
    except BlockingIOError:
        return replace(blank, reason="Another process is scoring it at this moment.")
    except (Changed, BrokenPipeline) as error:
        made = replace(blank, reason=str(error))
    if not files.is_local(look):
        fetched.path.unlink(missing_ok=True)
    return replace(made, seconds=round(time.monotonic() - began, 3))


def _once(asked: Order, look: Look, fetched: files.Fetched, tell: Tell) -> Scored:
    """Score a content, unless that was done."""
    pinned = ledger.pin(
        asked.pipeline.name, fetched.sha256, version=asked.champion.version, output=asked.output, form=asked.form, file=look.uri
    )
    if pinned.state == "done":
        return _told(look, pinned, "known")
    name = f"{_stem(pinned.file)}-{pinned.sha256[:12]}-{pinned.pipeline}-v{pinned.version}"
    with places.room(asked.output, f"{name}.{pinned.form}.{re.sub(r'[^0-9]', '', pinned.at)}") as room, _disk(asked.output):
        try:
            made, notes = _parts(asked, pinned, look, fetched.path, room, tell)
        except Unreadable as error:
            places.clear(room)
            return _told(look, ledger.unpin(pinned, refused=str(error)), "refused")
        if not files.unchanged(look):
            places.clear(room)
            raise Changed(
                f"{look.name} changed while it was read; nothing of it was put anywhere. It is scored anew when it is asked for again."
            )
        outputs = [places.put(room / file, asked.output, known) for part in made for file, known in part.names(name, pinned.form).items()]
        rows, rejected = sum(part.rows for part in made), sum(part.rejected for part in made)
        done = ledger.unpin(pinned, rows=rows, rejected=rejected, outputs=outputs)
        places.clear(room)
    return replace(_told(look, done, "scored"), notes=notes)


def _stem(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", PurePosixPath(name).name.removesuffix(".gz").rpartition(".")[0])[:80]


@contextmanager
def _disk(place: str) -> Iterator[None]:
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        if getattr(error, "errno", None) == errno.ENOSPC or f"os error {errno.ENOSPC}" in str(error):
            raise DiskFull(
                f"No space is left to make what goes to {place}. Free space and run again: what was finished is kept."
            ) from error
        raise


def _told(look: Look, pinned: Pinned, outcome: str) -> Scored:
    counts = {"rows": pinned.rows, "rejected": pinned.rejected, "reason": pinned.reason, "outputs": pinned.outputs, "at": pinned.at}
    return Scored(look.name, look.uri, outcome, sha256=pinned.sha256, version=pinned.version, **counts)  # type: ignore[arg-type]


def _parts(asked: Order, pinned: Pinned, look: Look, path: Path, room: Path, tell: Tell) -> tuple[list[parts.Finished], tuple[str, ...]]:
    """Make the parts that are not finished yet, one after the other, and give all; and what there is to note about the input.

    Rows are read and checked in this thread while the blocks before them are predicted in others.
    """
    model = _model(pinned)
    columns, extra = frames.known_in_time(model.pipeline), set[str]()
    height = parts.rows_of_block(len(columns))
    size = height * parts.BLOCKS
    done = parts.finished(room, size)
    chunks = formats.chunks(formats.unpacked(path, look.name, room), look.name, columns, asked.source)

    def checked() -> Iterator[tuple[int, int, Held | None]]:
        for block in parts.blocks(chunks, height):
            number = (block["_row"][0] - 1) // size
            extra.update(set(block.columns) - {"_row", *contract.dtypes(model.pipeline.contract)})
            yield number, block.height, None if number in done else predicted.held(model.pipeline, block, pinned.file)

    part = parts.Part(-1, size, room, asked.form)
    for (number, rows, held), good in parts.ahead(checked(), lambda block: _answered(model, pinned, block[2]), settings.read().workers):
        if number != part.number:
            _finish(part, done)
            part = parts.Part(number, size, room, asked.form)
        if held is not None and good is not None:
            part.add(rows, good, held.bad)
        tell(rows)
    _finish(part, done)
    note = f"{look.name} has columns that the contract does not have; they are left out: {sorted(extra)}."
    return [done[number] for number in sorted(done)], (note,) if extra else ()


def _answered(model: kept.Loaded, pinned: Pinned, held: Held | None) -> pl.DataFrame | None:
    return None if held is None else predicted.answered(model, held, pinned)


def _finish(part: parts.Part, done: dict[int, parts.Finished]) -> None:
    if part.number >= 0 and part.number not in done:
        done[part.number] = part.finish()


def _model(pinned: Pinned) -> kept.Loaded:
    found = ledger.served(pinned.pipeline, pinned.version)
    if found is None:
        raise UserError(
            f"Version {pinned.version} of {pinned.pipeline!r} is no champion that the ledger knows; it was to score {pinned.file}."
        )
    return _loaded(json.dumps(asdict(found)))


@functools.lru_cache(maxsize=2)
def _loaded(champion: str) -> kept.Loaded:
    """Load a version, from its verified copy or the registry, once for all files of a call."""
    return models.load(Champion(**json.loads(champion)))


@task(name="score", task_run_name="score {name}", cache_policy=NO_CACHE, persist_result=False)
def score_file(asked: Order, look: Look, sha256: str | None, name: str) -> Scored:
    """Score one file, shown as `name`."""
    made = score(asked, look, sha256)
    logger.info("%s: %s, %d rows, %d rejected%s", name, made.outcome, made.rows, made.rejected, f". {made.reason}" if made.reason else "")
    return made
