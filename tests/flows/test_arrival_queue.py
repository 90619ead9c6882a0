"""A watched source on S3 with a queue, against servers that speak both: the queue's word is enough, never believed, and never needed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.queue import hear
from infra.parts import Stack
from tasks.errors import LedgerError
from tasks.stores import files, lake, ledger, s3
from tasks.stores.ledger import access
from tests.landing import take_in_from
from tests.servers import moto, postgres, proxy
from tests.servers.aws import forget, use
from tests.servers.client import prefect_at
from tests.servers.moto import arn, client, make_bucket, post, size, tell
from tests.servers.proxy import Fault
from tests.servers.watched import csv, names, toy, watching
from tests.waiting import until

pytestmark = pytest.mark.slow

SELDOM = "3600"  # seconds between sweeps where the queue's word has to do
SOURCE = "s3://data/in/"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto.running() as address:
        yield address


class Scene:
    """A bucket that tells a queue of its objects."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.s3, self.sqs = client("s3", endpoint), client("sqs", endpoint)
        self.queue = self.sqs.create_queue(QueueName="events", Attributes={"VisibilityTimeout": "1"})["QueueUrl"]
        make_bucket(self.s3, "data", self.arn)

    @property
    def arn(self) -> str:
        return arn(self.sqs, self.queue)

    def put(self, key: str, body: bytes) -> None:
        self.s3.put_object(Bucket="data", Key=key, Body=body)

    def put_untold(self, key: str, body: bytes) -> None:
        """Put an object whose event is lost."""
        tell(self.s3, "data", None)
        self.put(key, body)
        tell(self.s3, "data", self.arn)

    def say(self, body: object) -> None:
        """Put a message into the queue by hand."""
        self.sqs.send_message(QueueUrl=self.queue, MessageBody=body if isinstance(body, str) else json.dumps(body))

    def left(self) -> int:
        return size(self.sqs, self.queue)

    def close(self) -> None:
        self.s3.close()
        self.sqs.close()


@pytest.fixture
def scene(endpoint: str, home: Path, servers: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    post(f"{endpoint}/moto-api/reset")
    use(monkeypatch, endpoint, moto.ACCESS, moto.SECRET)
    monkeypatch.setenv("RATCHET_SWEEP", SELDOM)
    monkeypatch.setattr("flows.queue.WAIT", 1)  # so that a watcher ends soon; a message ends a wait by itself
    found = Scene(endpoint)
    list(files.look(SOURCE))  # what the first look takes longer would put off the next sweep
    with prefect_at(servers.prefect_api_url):
        yield found
    found.close()
    forget()


@pytest.fixture
def swept(scene: Scene) -> Iterator[Scene]:
    """A watched source whose only sweep for an hour is over; it found one object."""
    scene.put("in/first.csv", csv(1, 99))
    with watching(toy(SOURCE, scene.queue)):
        until(lambda: names() == ["first.csv"])
        until(lambda: scene.left() == 0)
        yield scene


def record(key: str, bucket: str = "data", event: str = "ObjectCreated:Put") -> dict[str, Any]:
    """What S3 says of one object, its key as in a form."""
    return {"eventSource": "aws:s3", "eventName": event, "s3": {"bucket": {"name": bucket}, "object": {"key": key}}}


def heard(*expected: str) -> None:
    """Wait until exactly these have been recorded since the sweep."""
    until(lambda: len(names()) > len(expected), f"the record of {expected}")
    assert sorted(names()[1:]) == sorted(expected)


KEYS = ["2024/a b+ü.csv", "100%25.csv", "a&b=c?d#e.csv", "日本 語.csv", "a//b.csv", "plain.csv"]


def test_objects_of_any_name_are_recorded_by_the_queues_word_alone(swept: Scene) -> None:
    for number, key in enumerate(KEYS):
        swept.put(f"in/{key}", csv(3, 3 * number))
    heard(*KEYS)
    until(lambda: swept.left() == 0)
    assert ledger.dead_letters("toy") == ()
    take_in_from(SOURCE)
    assert sorted(lake.scan("toy").collect()["id"]) == [*range(3 * len(KEYS)), 99]


def test_an_overwrite_is_heard_of_as_a_new_version(swept: Scene) -> None:
    swept.put("in/a.csv", csv(3))
    heard("a.csv")
    swept.put("in/a.csv", csv(3, 10))
    heard("a.csv", "a.csv")


def test_eventbridges_form_of_an_event_is_heard_too(swept: Scene) -> None:
    swept.put_untold("in/a b+ü.csv", csv(3))
    detail = {"version": "0", "bucket": {"name": "data"}, "object": {"key": "in/a b+ü.csv", "size": 1}, "reason": "PutObject"}
    swept.say({"version": "0", "detail-type": "Object Created", "source": "aws.s3", "region": "eu-central-1", "detail": detail})
    heard("a b+ü.csv")


def test_s3s_test_event_is_no_arrival_and_no_dead_letter(swept: Scene) -> None:
    swept.say({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "data"})
    until(lambda: swept.left() == 0)
    assert names() == ["first.csv"]
    assert ledger.dead_letters("toy") == ()


def test_an_event_that_comes_fifty_times_is_one_arrival(swept: Scene) -> None:
    swept.put_untold("in/a.csv", csv(3))
    for _ in range(50):
        swept.say({"Records": [record("in/a.csv")]})
    until(lambda: swept.left() == 0)
    assert names() == ["first.csv", "a.csv"]


def test_events_in_another_order_than_things_happened_lead_to_what_is_there_now(swept: Scene) -> None:
    for body in (csv(3), csv(3, 10)):
        swept.put_untold("in/a.csv", body)
    swept.put_untold("in/b.csv", csv(3, 20))
    swept.put_untold("in/gone.csv", csv(3, 30))
    swept.s3.delete_object(Bucket="data", Key="in/gone.csv")
    until(lambda: swept.left() == 0)
    removed = "ObjectRemoved:Delete"
    for said in (record("in/b.csv", event=removed), record("in/b.csv"), record("in/gone.csv", event=removed), record("in/gone.csv")):
        swept.say({"Records": [said]})
    swept.say({"Records": [record("in/a.csv"), record("in/a.csv", event=removed), record("in/a.csv")]})
    until(lambda: swept.left() == 0)
    assert sorted(names()) == ["a.csv", "b.csv", "first.csv"]
    take_in_from(SOURCE)
    assert sorted(lake.scan("toy").collect()["id"]) == [10, 11, 12, 20, 21, 22, 99]


def test_a_deletion_takes_no_rows_away(swept: Scene) -> None:
    take_in_from(SOURCE)
    swept.s3.delete_object(Bucket="data", Key="in/first.csv")
    swept.put("in/a.csv", csv(3))
    heard("a.csv")
    until(lambda: swept.left() == 0)
    take_in_from(SOURCE)
    assert sorted(lake.scan("toy").collect()["id"]) == [0, 1, 2, 99]


def test_what_is_said_of_another_bucket_or_prefix_is_passed_over(swept: Scene) -> None:
    make_bucket(swept.s3, "foreign")
    swept.s3.put_object(Bucket="foreign", Key="in/a.csv", Body=csv(3))
    swept.put("out/a.csv", csv(3))
    swept.say({"Records": [record("in/a.csv", bucket="foreign"), record("out/a.csv")]})
    until(lambda: swept.left() == 0)
    assert names() == ["first.csv"]
    assert ledger.dead_letters("toy") == ()


POISON = {
    "no JSON": "{",
    "no object": "[1]",
    "no event": '{"hello": "world"}',
    "records that are none": '{"Records": [{"eventName": "ObjectCreated:Put"}]}',
    "a key with a zero byte": json.dumps({"Records": [record("in/a%00.csv")]}),
    "a key that is no text": json.dumps({"Records": [record("in/\udce4.csv")]}),
    "a deep nest": "[" * 100_000,
    "a key of the wrong type": json.dumps({"Records": [record("in/a.csv") | {"s3": {"bucket": {"name": "data"}, "object": {"key": 7}}}]}),
}


@pytest.mark.parametrize("body", POISON.values(), ids=POISON)
def test_a_message_that_cannot_be_read_is_kept_as_a_dead_letter_and_the_next_is_heard(swept: Scene, body: str) -> None:
    swept.say(body)
    until(lambda: ledger.dead_letters("toy"), "the dead letter")
    swept.put("in/a.csv", csv(3))
    heard("a.csv")
    until(lambda: swept.left() == 0)
    ((_, reason, kept),) = ledger.dead_letters("toy")
    assert kept == body[:10_000]
    assert reason


def test_a_message_that_cannot_be_read_goes_to_the_queues_own_dead_letters_and_is_kept_once(swept: Scene) -> None:
    dead = swept.sqs.create_queue(QueueName="dead")["QueueUrl"]
    policy = json.dumps({"deadLetterTargetArn": arn(swept.sqs, dead), "maxReceiveCount": 2})
    swept.sqs.set_queue_attributes(QueueUrl=swept.queue, Attributes={"RedrivePolicy": policy})
    swept.say("{")
    until(lambda: size(swept.sqs, dead) == 1, "the redrive")
    assert swept.left() == 0
    assert len(ledger.dead_letters("toy")) == 1
    swept.put("in/a.csv", csv(3))
    heard("a.csv")


def test_an_event_that_is_lost_for_ever_is_made_good_by_the_sweep(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATCHET_SWEEP", "1")
    with watching(toy(SOURCE, scene.queue)):
        scene.put_untold("in/a.csv", csv(3))
        until(lambda: names() == ["a.csv"])
        scene.put_untold("in/b.csv", csv(3, 10))
        until(lambda: names() == ["a.csv", "b.csv"])


def test_without_the_event_only_a_sweep_finds_an_object_as_the_one_at_the_next_start(swept: Scene) -> None:
    swept.put_untold("in/lost.csv", csv(3))
    swept.put("in/told.csv", csv(3, 10))
    heard("told.csv")
    with watching(toy(SOURCE, swept.queue)):
        until(lambda: "lost.csv" in names())


def test_a_queue_that_is_not_there_keeps_nothing_from_being_recorded(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATCHET_SWEEP", "1")
    with watching(toy(SOURCE, f"{scene.queue}-missing")):
        scene.put("in/a.csv", csv(3))
        until(lambda: names() == ["a.csv"])


def test_a_message_is_deleted_only_once_the_ledger_has_what_it_was_about(scene: Scene) -> None:
    scene.put("in/a.csv", csv(3))
    ledger.history("toy")
    with ledger.transaction() as connection:
        connection.exec_driver_sql("CREATE TRIGGER full BEFORE INSERT ON arrivals BEGIN SELECT RAISE(ABORT, 'no more'); END")
    with pytest.raises(LedgerError, match="no more"):
        for _ in range(20):  # the first messages may be S3's greetings
            hear(toy(SOURCE, scene.queue))
    assert scene.left() > 0
    with ledger.transaction() as connection:
        connection.exec_driver_sql("DROP TRIGGER full")
    until(lambda: hear(toy(SOURCE, scene.queue)))
    assert names() == ["a.csv"]
    assert scene.left() == 0


@pytest.mark.skipif(bool(postgres.absent()), reason="needs a PostgreSQL; see .ci/packages")
def test_while_the_ledger_is_away_messages_wait_and_are_heard_once_it_is_back(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    with postgres.serving() as server:
        monkeypatch.setenv("RATCHET_LEDGER_URL", server.url)
        assert names() == []  # opens the ledger once, before several threads would
        scene.put("in/first.csv", csv(1, 99))
        with watching(toy(SOURCE, scene.queue)):
            until(lambda: names() == ["first.csv"] and scene.left() == 0)
            server.stop()
            try:
                scene.put("in/a.csv", csv(3))
                until(lambda: times_received(scene) > 0, "the message's receipt")
            finally:
                server.start()
            until(lambda: names() == ["first.csv", "a.csv"], "the record")
            until(lambda: scene.left() == 0)
        access._open(server.url).dispose()


def test_the_message_of_an_object_that_s3_does_not_give_comes_again_until_it_does(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "RETRIES", 1)
    with proxy.running(scene.endpoint) as gate:
        use(monkeypatch, gate.url, moto.ACCESS, moto.SECRET)
        scene.put("in/first.csv", csv(1, 99))
        with watching(toy(SOURCE, scene.queue)):
            until(lambda: names() == ["first.csv"] and scene.left() == 0)
            gate.set(Fault("500", path=r"/a\.csv$", method="GET", times=10_000))
            scene.put("in/a.csv", csv(3))
            scene.put("in/b.csv", csv(3, 10))
            until(lambda: names() == ["first.csv", "b.csv"], "the other object's record")
            until(lambda: gate.hits > 2, "its message, once more")
            gate.set(None)
            until(lambda: names() == ["first.csv", "b.csv", "a.csv"], "the record")
            until(lambda: scene.left() == 0)


def times_received(scene: Scene) -> int:
    """Count the messages that somebody has received and not deleted."""
    names = ["ApproximateNumberOfMessagesNotVisible"]
    return int(scene.sqs.get_queue_attributes(QueueUrl=scene.queue, AttributeNames=names)["Attributes"][names[0]])
