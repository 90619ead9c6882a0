"""The watcher of a local source on a real Prefect server: whatever lands, however it lands, is recorded once, told once, and asked for."""

import errno
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from flows import arrival
from flows.arrival import Watcher
from infra.parts import Stack
from tasks.records import Observation
from tasks.stores import events, files, ledger
from tasks.triggers import Receipt, Watched
from tests.servers import proxy
from tests.servers.client import events_of, prefect_at
from tests.servers.proxy import Fault
from tests.waiting import until

pytestmark = pytest.mark.slow
SELDOM = "600"  # seconds between sweeps where the file system's word has to do


class Scene:
    """A source, and watchers of it that come and go; what they ask for is kept."""

    def __init__(self, root: Path) -> None:
        self.name = f"p_{uuid4().hex}"
        self.source, self.outside = root / "in", root / "outside"
        self.nudged = 0
        self.insisted: list[str] = []
        self.refusal: Receipt | None = None
        self.watchers: list[Watcher] = []
        for directory in (self.source, self.outside):
            directory.mkdir()

    def watch(self, **retrain: Any) -> Watcher:
        watcher = Watcher(Watched(self.name, str(self.source), None, retrain, "digest"), self._nudge, self._start)
        self.watchers.append(watcher)
        watcher.begin()
        return watcher

    def stop(self) -> None:
        for watcher in self.watchers:
            watcher.end()
        for watcher in self.watchers:
            for thread in watcher._threads:
                thread.join(10)
                assert not thread.is_alive()
        self.watchers.clear()

    def _nudge(self) -> None:
        self.nudged += 1

    def _start(self, name: str, about: str) -> Receipt | None:
        assert name == self.name
        self.insisted.append(about)
        return self.refusal

    def recorded(self) -> list[str]:
        return sorted(arrival.name for arrival in ledger.history(self.name))

    def await_recorded(self, *names: str) -> None:
        until(lambda: set(names) <= set(self.recorded()), f"the record of {names}")

    def receipts(self) -> list[str]:
        return [f"{found.outcome} {found.rule}" for found in reversed(ledger.receipts(self.name))]

    def await_receipt(self, what: str) -> Receipt:
        until(lambda: what in self.receipts(), f"the receipt {what}")
        return next(found for found in ledger.receipts(self.name) if f"{found.outcome} {found.rule}" == what)

    def drop(self, name: str, text: str = "x") -> Path:
        """Put a file into the source by a rename, as it should be."""
        return files.land(f"{name} {text}".encode(), (self.source / name).parent, Path(name).name)


@pytest.fixture
def api(home: Path, servers: Stack) -> Iterator[str]:
    with prefect_at(servers.prefect_api_url):
        yield servers.prefect_api_url


@pytest.fixture
def scene(home: Path, tmp_path: Path, api: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setenv("RATCHET_SWEEP", SELDOM)
    made = Scene(tmp_path)
    yield made
    made.stop()


def seeing(scene: Scene) -> None:
    """Wait until the watcher hears of what lands."""
    number = 0
    while "seen.csv" not in scene.recorded():
        scene.drop("seen.csv", str(number := number + 1))
        time.sleep(0.2)
        assert number < 100
    scene.nudged = 0


WAYS: dict[str, Callable[[Scene, str], object]] = {
    "written.csv": lambda scene, name: (scene.source / name).write_text(name),
    "copied.csv": lambda scene, name: shutil.copy2(scene.drop(f"../outside/{name}"), scene.source / name),
    "moved.csv": lambda scene, name: scene.drop(f"../outside/{name}").rename(scene.source / name),
    "linked.csv": lambda scene, name: (scene.source / name).hardlink_to(scene.drop(f"../outside/{name}")),
    "2024/05/new.csv": lambda scene, name: scene.drop(name),
    "2025/moved.csv": lambda scene, name: scene.drop(f"../outside/{name}").parent.rename(scene.source / "2025"),
    "1970.csv": lambda scene, name: os.utime(scene.drop(name), (0, 0)),
    "2100.csv": lambda scene, name: os.utime(scene.drop(name), (4102444800, 4102444800)),
}


def test_however_a_file_lands_it_is_heard_of_recorded_once_and_a_cycle_is_asked_for(scene: Scene) -> None:
    scene.watch()
    seeing(scene)
    for name, land in WAYS.items():
        land(scene, name)
    scene.await_recorded(*WAYS)
    assert [name for name in scene.recorded() if name != "seen.csv"] == sorted(WAYS)
    until(lambda: scene.nudged, "the question for a cycle")
    assert scene.await_receipt("asked arrival").outstanding >= 1


def test_what_landed_while_nobody_watched_is_found_by_the_first_sweep(scene: Scene) -> None:
    scene.watch()
    scene.drop("before.csv")
    scene.await_recorded("before.csv")
    scene.stop()
    scene.drop("meanwhile.csv")
    scene.watch()
    scene.await_recorded("meanwhile.csv")
    assert scene.recorded() == ["before.csv", "meanwhile.csv"]


def test_a_file_that_grows_is_recorded_whole_once_its_writer_is_done(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATCHET_SETTLE", "0.2")
    scene.watch()
    seeing(scene)
    with (scene.source / "slow.csv").open("w") as file:
        for number in range(5):
            file.write(f"{number}\n" * 1000)
            file.flush()
            time.sleep(0.3)  # longer than it takes to settle, had it been closed
            assert "slow.csv" not in scene.recorded()
    scene.await_recorded("slow.csv")
    (found,) = [arrival for arrival in ledger.history(scene.name) if arrival.name == "slow.csv"]
    assert found.size == 10_000


def test_hidden_and_temporary_names_directories_and_links_out_of_the_source_are_left_alone(scene: Scene) -> None:
    scene.watch()
    seeing(scene)
    (scene.source / "link").symlink_to(scene.outside)
    (scene.source / "directory.csv").mkdir()
    (scene.source / ".hidden").mkdir()
    scene.drop("../outside/secret.csv")
    (scene.source / "secret.csv").symlink_to(scene.outside / "secret.csv")
    for name in (".a.csv", "_b.csv", "c.csv.tmp", "d.csv~", "notes.txt", ".hidden/e.csv"):
        (scene.source / name).write_text("x")
    time.sleep(0.5)  # so that what is written through the link is heard of by itself
    scene.drop("../outside/later.csv")
    scene.drop("good.csv")
    scene.await_recorded("good.csv")
    scene.watchers[0].look()
    time.sleep(0.3)
    assert set(scene.recorded()) == {"good.csv", "seen.csv"}


def test_a_source_that_is_renamed_away_and_back_is_watched_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATCHET_SWEEP", "0.3")
    scene.watch()
    seeing(scene)
    scene.source.rename(scene.source.with_name("away"))
    assert "does not exist" in scene.await_receipt("skipped source").why
    time.sleep(2)  # until the watch on the old directory has ended and the next one waits for the source to come back
    scene.source.with_name("away").rename(scene.source)
    time.sleep(0.5)
    (scene.source.parent / "sibling.csv").write_text("of somebody else")
    scene.drop("back.csv")
    scene.await_recorded("back.csv")
    time.sleep(0.5)
    scene.drop("more.csv")
    scene.await_recorded("more.csv")
    assert set(scene.recorded()) == {"back.csv", "more.csv", "seen.csv"}


def test_a_source_that_is_made_after_its_watcher_is_watched(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATCHET_SWEEP", "0.3")
    scene.source.rmdir()
    watcher = scene.watch()
    scene.await_receipt("skipped source")
    assert not watcher.watching
    assert "does not exist" in watcher.note
    (scene.source.parent / "sibling.csv").write_text("of somebody else")
    scene.drop("first.csv")
    scene.await_recorded("first.csv")
    scene.drop("2024/second.csv")
    scene.await_recorded("2024/second.csv")
    until(lambda: watcher.watching and not watcher.note, "the watch")
    assert scene.recorded() == ["2024/second.csv", "first.csv"]


def test_a_single_file_is_watched_and_its_neighbours_are_not(scene: Scene) -> None:
    source, scene.source = scene.source, scene.source / "only.csv"
    scene.source.write_text("one")
    scene.watch()
    scene.await_recorded("only.csv")
    time.sleep(0.5)
    (source / "other.csv").write_text("x")
    files.land(b"two", source, "only.csv")
    until(lambda: len(scene.recorded()) == 2, "the second version")
    assert set(scene.recorded()) == {"only.csv"}


def test_where_the_system_allows_no_more_watches_the_sweeps_see_all_and_it_is_said(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(uri: str, stop: threading.Event) -> Iterator[frozenset[str]]:
        raise OSError(errno.ENOSPC, "inotify watch limit reached")

    monkeypatch.setattr(files, "watch", refused)
    monkeypatch.setenv("RATCHET_SWEEP", "0.2")
    with caplog.at_level(logging.WARNING, "flows.arrival"):
        scene.watch()
        for name in ("a.csv", "b.csv"):
            scene.drop(name)
            scene.await_recorded(name)
    assert "cannot be watched: [Errno 28] inotify watch limit reached. It is listed, and tried again." in caplog.text


def test_a_sweep_that_is_asked_for_while_one_is_under_way_follows_it(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    sweeps: list[float] = []

    def slow(name: str, source: str) -> Observation:
        sweeps.append(time.monotonic())
        if len(sweeps) == 1:
            scene.watchers[0]._sweep_now()
        return Observation(0, (), (), ())

    monkeypatch.setattr(arrival, "survey", slow)
    watcher = Watcher(Watched(scene.name, str(scene.source), None, {}, "digest"), scene._nudge, scene._start)
    scene.watchers.append(watcher)
    watcher._threads = watcher._threads[:1]  # nothing else asks for one
    watcher.begin()
    until(lambda: len(sweeps) == 2, "the second sweep")
    time.sleep(0.5)
    assert len(sweeps) == 2


def heard_of(scene: Scene, name: str) -> None:
    """Hold that what lands is heard of at once: no sweep is due."""
    scene.drop(name)
    until(lambda: name in scene.recorded(), f"word of {name}", 5)


def test_a_name_that_is_no_text_keeps_no_other_file_from_being_heard_of(scene: Scene) -> None:
    watcher = scene.watch()
    seeing(scene)
    for number in range(2):
        (scene.source / os.fsdecode(b"latin1-\xe9%d.csv" % number)).write_text("x")
        scene.drop(f"with-{number}.csv")
        scene.await_recorded(f"with-{number}.csv")
        until(lambda: watcher._unseen == "", "the next watch")
        heard_of(scene, f"after-{number}.csv")
    assert not [name for name in scene.recorded() if name.startswith("latin1")]


@pytest.mark.parametrize("above", [False, True], ids=["itself", "with the directory above"])
def test_a_source_that_was_removed_is_watched_again_soon_after_it_is_made_anew(scene: Scene, tmp_path: Path, above: bool) -> None:
    scene.source = tmp_path / "above" / "in"
    scene.source.mkdir(parents=True)
    watcher = scene.watch()
    seeing(scene)
    shutil.rmtree(scene.source.parent if above else scene.source)
    scene.await_receipt("skipped source")
    time.sleep(1.5)
    scene.source.mkdir(parents=True)
    scene.drop("first.csv")
    until(lambda: "first.csv" in scene.recorded(), "the sweep", 6)
    until(lambda: watcher._unseen == "", "the next watch", 6)
    heard_of(scene, "second.csv")
    shutil.rmtree(scene.source)
    heard_of(scene, "third.csv")


def test_files_that_come_and_go_do_not_end_the_watch(scene: Scene) -> None:
    scene.watch()
    seeing(scene)
    limit = time.monotonic() + 1.5
    while time.monotonic() < limit:
        (scene.source / "brief.csv").write_text("x")
        (scene.source / "brief.csv").unlink()
    scene.drop("last.csv")
    scene.await_recorded("last.csv")


def told(api: str, scene: Scene) -> list[dict[str, Any]]:
    return [event for event in events_of(api, scene.name) if event["event"] == events.LANDED]


def test_three_hundred_files_at_once_under_two_watchers_are_recorded_once_and_told_once(scene: Scene, api: str) -> None:
    scene.watch()
    scene.watch()
    seeing(scene)
    names = [f"{number:03}.csv" for number in range(300)]
    for name in names:
        scene.drop(name)
    scene.await_recorded(*names)
    versions = scene.recorded().count("seen.csv")
    assert scene.recorded() == [*names, *["seen.csv"] * versions]
    until(lambda: sum(event["payload"].get("arrivals", 1) for event in told(api, scene)) >= 300 + versions, "the events of all")
    found = told(api, scene)
    assert sum(event["payload"].get("arrivals", 1) for event in found) == 300 + versions
    assert len({event["id"] for event in found}) == len(found)
    due = [event for event in events_of(api, scene.name) if event["event"] == events.DUE]
    assert due
    assert len({event["id"] for event in due}) == len(due)


def test_an_arrival_that_is_told_again_is_one_event_in_the_feed(scene: Scene, api: str) -> None:
    scene.watch()
    scene.drop("a.csv")
    until(lambda: told(api, scene), "the event")
    events.send(events.landed(scene.name, ledger.history(scene.name)))
    events.send([events.event(events.LANDED, scene.name, "a mark", {"name": "mark"})])
    until(lambda: len(told(api, scene)) >= 2, "the mark")
    assert sorted(event["payload"]["name"] for event in told(api, scene)) == ["a.csv", "mark"]


def test_the_same_state_is_asked_for_once_and_insisted_on_when_nothing_comes_of_it(scene: Scene) -> None:
    scene.refusal = Receipt("waited", "switched_off", "the automation is switched off")
    scene.watch()
    scene.drop("a.csv")
    scene.await_receipt("asked arrival")
    until(lambda: scene.insisted, "the start without the automation")
    assert scene.nudged == 1  # though looked at every second and a half
    assert scene.insisted[0].startswith(f"after cycle 0, up to arrival {ledger.history(scene.name)[0].seq}")
    assert scene.await_receipt("waited switched_off").why == "the automation is switched off"
    scene.drop("b.csv")
    until(lambda: scene.nudged == 2, "the question for a cycle with the new state")


def test_while_prefect_is_away_all_is_recorded_and_a_cycle_insisted_on(scene: Scene, servers: Stack) -> None:
    with proxy.running(servers.prefect_api_url) as gate, prefect_at(f"{gate.url}/api"):
        gate.set(Fault("refuse", times=1000))
        scene.watch()
        scene.drop("a.csv")
        until(lambda: scene.insisted, "the start without the automation")
        scene.drop("b.csv")
        scene.await_recorded("a.csv", "b.csv")
        assert gate.hits > 0
        gate.set(None)
        scene.drop("c.csv")
        until(lambda: events_of(servers.prefect_api_url, scene.name), "events once Prefect is back")
        scene.stop()


def test_a_cycle_is_asked_for_when_the_policy_says_so_and_each_wait_leaves_its_receipt(scene: Scene) -> None:
    scene.watch(min_arrivals=2, debounce=1.0)
    scene.drop("a.csv")
    scene.await_receipt("waited min_arrivals")
    scene.drop("b.csv")
    assert scene.await_receipt("waited debounce").outstanding == 2
    time.sleep(0.3)
    scene.drop("c.csv")
    assert scene.await_receipt("asked arrival").outstanding == 3
    assert scene.receipts() == ["waited min_arrivals", "waited debounce", "asked arrival"]
    until(lambda: scene.nudged, "the nudge")


def test_where_arrivals_start_no_cycle_they_are_recorded_and_wait(scene: Scene) -> None:
    scene.watch(on_arrival=False, schedule="0 3 * * *")
    scene.drop("a.csv")
    assert "'0 3 * * *'" in scene.await_receipt("waited on_arrival").why
    assert (scene.recorded(), scene.nudged, scene.insisted) == (["a.csv"], 0, [])
