"""The checker: hold source, ledger, lake and registry against each other, and say what is lost, there twice, or there without cause.

It believes no log and no process. What a file held is known from the world that made it, by its SHA-256.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import mlflow
import polars as pl
import sqlalchemy as sa

from tasks import settings
from tasks.records import Arrival
from tasks.stores import lake, ledger
from tasks.stores.ledger import access, schema
from tests.chaos.world import Content, World


def violations(pipeline: str, world: World) -> list[str]:
    """Give everything that is wrong once all is quiet, each as a sentence."""
    history = ledger.history(pipeline)
    checks = (
        _source(world, history),
        _rows(pipeline, world.contents, history),
        _quarantine(pipeline, history),
        _cycles(pipeline),
        _champions(pipeline),
        _registry(pipeline),
        _leftovers(pipeline),
    )
    return [sentence for check in checks for sentence in check]


def lost(pipeline: str, world: World) -> list[str]:
    """Give the files that are there and were not taken in or set aside in the version that they have now."""
    return list(_source(world, ledger.history(pipeline)))


def _source(world: World, history: tuple[Arrival, ...]) -> Iterator[str]:
    """Every file that is there has been taken in, or set aside, in the version that it has now; nothing is left pending."""
    newest = {arrival.uri: arrival for arrival in reversed(history)}
    for path in world.files():
        arrival, digest = newest.get(str(path)), _digest(path)
        if arrival is None or arrival.sha256 != digest:
            yield f"lost: {path.name} ({digest[:8]}) never became an arrival; its newest is {arrival}"
        elif arrival.state == "quarantined" and world.contents[digest].readable:
            yield f"lost: {path.name} ({digest[:8]}) is good and was quarantined: {arrival.reason}"
    yield from (f"pending: {arrival}" for arrival in history if arrival.state == "pending")
    twice = [key for key, count in Counter((arrival.uri, arrival.seq) for arrival in history).items() if count > 1]
    yield from (f"twice: arrival {key}" for key in twice)


def _digest(path: Path) -> str:
    from hashlib import sha256

    return sha256(path.read_bytes()).hexdigest()


def _rows(pipeline: str, contents: Mapping[str, Content], history: tuple[Arrival, ...]) -> Iterator[str]:
    """The lake has the good rows of the live arrivals, each once, under the arrival that the ledger says, and no others."""
    rows = (
        lake.scan(pipeline).select("id", "_arrival").collect()
        if lake.exists(pipeline)
        else pl.DataFrame(schema={"id": int, "_arrival": str})
    )
    live = [arrival for arrival in history if arrival.state in ("ingested", "duplicate") and not arrival.superseded]
    wanted = {row for arrival in live for row in contents[arrival.sha256].ids}
    found = Counter(rows["id"].to_list())
    for name, ids in (
        ("lost", wanted - found.keys()),
        ("unexpected", found.keys() - wanted),
        ("twice", {i for i, n in found.items() if n > 1}),
    ):
        if ids:
            yield f"{name}: {len(ids)} rows in the lake, of the files that begin at {sorted({i // 1000 * 1000 for i in ids})}"
    by_arrival = dict(rows.group_by("_arrival").len().iter_rows())
    for arrival in history:
        expected = arrival.accepted if arrival.state == "ingested" and not arrival.superseded else 0
        if by_arrival.get(arrival.id, 0) != expected:
            yield f"miscounted: the lake has {by_arrival.get(arrival.id, 0)} rows of {arrival}"
    if strange := by_arrival.keys() - {arrival.id for arrival in history}:
        yield f"unexpected: the lake has rows of arrivals that the ledger does not know: {strange}"


def _quarantine(pipeline: str, history: tuple[Arrival, ...]) -> Iterator[str]:
    """Each rejected row, and each file that cannot be read, is in quarantine once."""
    kept = lake.scan(pipeline, "quarantine").group_by("_arrival").len().collect() if lake.exists(pipeline, "quarantine") else pl.DataFrame()
    found = dict(kept.iter_rows())
    for arrival in history:
        if arrival.state == "ingested" and found.get(arrival.id, 0) != arrival.rejected:
            yield f"quarantine: {found.get(arrival.id, 0)} entries of {arrival}"
        if arrival.state == "quarantined" and arrival.reason is None:
            yield f"quarantine: no reason for {arrival}"


def _cycles(pipeline: str) -> Iterator[str]:
    """No cycle is left running, tokens rise, and every cycle that is done has one decision."""
    with access.reading() as connection:
        rows = connection.execute(sa.select(schema.cycles).where(schema.cycles.c.pipeline == pipeline).order_by(schema.cycles.c.id)).all()
        decided = set(connection.execute(sa.select(schema.decisions.c.cycle).where(schema.decisions.c.pipeline == pipeline)).scalars())
    tokens = [row.token for row in rows]
    if tokens != sorted(set(tokens)):
        yield f"tokens do not rise: {tokens}"
    yield from (f"cycle {row.id} is still running" for row in rows if row.state == "running")
    if decided != {row.id for row in rows if row.state == "done"}:
        yield f"decisions {sorted(decided)} are not those of the cycles that are done: {[(row.id, row.state) for row in rows]}"
    if ledger.lease_holder(pipeline) is not None:
        yield f"the lease is held by {ledger.lease_holder(pipeline)}"


def _champions(pipeline: str) -> Iterator[str]:
    """The champions are those that decisions have made, in their order, each from the one before, each with all rules passed."""
    served = list(reversed(ledger.champions(pipeline)))
    made = [decision for decision in reversed(ledger.decisions(pipeline)) if decision["verdict"] == "promote"]
    if [champion.cycle for champion in served] != [decision["cycle"] for decision in made]:
        yield f"champions of cycles {[c.cycle for c in served]}, promotions in {[d['cycle'] for d in made]}"
    if [decision["previous"] for decision in made] != [None, *(champion.version for champion in served)][: len(made)]:
        yield f"a promotion was not made against the champion before it: {[(d['previous'], d['champion']) for d in made]}"
    for decision in made:
        if not decision["rules"] or not all(rule["passed"] for rule in decision["rules"]):
            yield f"cycle {decision['cycle']} promoted without all rules passed"
    if sum(champion.until is None for champion in served) != min(1, len(served)):
        yield f"{sum(champion.until is None for champion in served)} champions at once"


def _registry(pipeline: str) -> Iterator[str]:
    """The registry shows the ledger's champion, calls no other version promoted, and has no run that never ends."""
    client = mlflow.MlflowClient(settings.read().mlflow_tracking_uri)
    champion = ledger.champion(pipeline)
    versions = client.search_model_versions(f"name = '{pipeline}'")
    status = {int(version.version): version.tags.get("status") for version in versions}
    served = {old.version for old in ledger.champions(pipeline)}
    waiting = ledger.waiting(pipeline)
    asked = {waiting.candidate.version} if waiting else set()
    wrong = {
        version: tag
        for version, tag in status.items()
        if tag != ("promoted" if version in served else "new" if version in asked else "orphan")
    }
    if wrong or not served <= status.keys():
        yield f"registry: served {sorted(served)}, but versions are marked {status}"
    if champion is not None:
        found = client.get_model_version_by_alias(pipeline, "champion")
        if int(found.version) != champion.version or found.tags["sha256"] != champion.sha256:
            yield f"registry: the alias points to {found.version}, the champion is {champion.version}"
    experiment = client.get_experiment_by_name(pipeline)
    if experiment is not None:
        left = client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'")
        yield from (f"registry: run {run.info.run_name} is still running" for run in left)


def _leftovers(pipeline: str) -> Iterator[str]:
    """The outbox is empty, and no working directory is left."""
    yield from (f"outbox: {effect} was not done" for effect in ledger.unfinished(pipeline))
    work = settings.read().work / pipeline
    yield from (f"left behind: {path}" for path in work.glob("cycle-*"))


def minimal_history(pipeline: str, world: World) -> str:
    """Write down what happened, in order, for a person who looks for the cause."""
    lines = [*world.told, "", *(str(arrival) for arrival in reversed(ledger.history(pipeline)))]
    lines += ["", *(str(cycle) for cycle in reversed(ledger.list_cycles(pipeline)))]
    lines += [
        "",
        *(f"cycle {d['cycle']}: {d['verdict']}, {d['previous']} -> {d['champion']}" for d in reversed(ledger.decisions(pipeline))),
    ]
    return "\n".join(lines)
