"""A queue that S3 tells of its events, against a real server: received until deleted, and clear about what keeps it from being asked."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from tasks import notices
from tasks.errors import SourceUnavailable
from tasks.stores import s3, sqs
from tasks.stores.sqs import Message
from tests.servers import moto
from tests.servers.aws import REGION, forget, use
from tests.servers.moto import arn, client, make_bucket, post, size

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto.running() as address:
        yield address


@pytest.fixture
def access(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Credentials and addresses of the server, and nothing that earlier tests left on it."""
    post(f"{endpoint}/moto-api/reset")
    use(monkeypatch, endpoint, moto.ACCESS, moto.SECRET)
    yield
    forget()


@pytest.fixture
def aws(access: None, endpoint: str) -> Iterator[Any]:
    made = client("sqs", endpoint)
    yield made
    made.close()


@pytest.fixture
def queue(aws: Any) -> str:
    return str(aws.create_queue(QueueName="events")["QueueUrl"])


@pytest.fixture
def bucket(endpoint: str, aws: Any, queue: str) -> Iterator[Any]:
    """A bucket that tells the queue of every object made and removed."""
    made = client("s3", endpoint)
    make_bucket(made, "data", arn(aws, queue))
    yield made
    made.close()


def drain(queue: str) -> list[notices.Letter]:
    """Receive, read and delete until nothing comes any more."""
    found = []
    while messages := sqs.receive(queue, wait=0):
        found += [notices.read(message.body) for message in messages]
        assert sqs.delete(queue, messages) == 0
    return found


def told(queue: str) -> set[tuple[str, str, bool]]:
    return {(notice.bucket, notice.key, notice.created) for letter in drain(queue) for notice in letter.notices}


def test_s3_greets_the_queue_with_a_test_event_that_is_no_notice(bucket: Any, queue: str) -> None:
    (letter,) = drain(queue)
    assert letter.notices == ()
    assert letter.note
    assert drain(queue) == []


KEYS = ["in/a.csv", "in/2024/a b+ü.csv", "in/100%25.csv", "in/a&b=c?d#e.csv", "in/日本 語.csv", "in/a//b.csv", "out/c.csv", "in.csv"]


def test_every_object_made_is_told_of_with_its_very_key(bucket: Any, queue: str) -> None:
    for key in KEYS:
        bucket.put_object(Bucket="data", Key=key, Body=b"x")
    assert told(queue) == {("data", key, True) for key in KEYS}


@pytest.mark.parametrize("prefix", ["", "/", "/in", "/in/", "/in/2024/", "/in/a.csv", "/nothing"])
def test_the_notices_that_concern_a_source_are_of_the_objects_that_a_listing_of_it_gives(bucket: Any, queue: str, prefix: str) -> None:
    for key in KEYS:
        bucket.put_object(Bucket="data", Key=key, Body=b"x")
    source = f"s3://data{prefix}"
    concerned = {f"s3://data/{notice.key}" for letter in drain(queue) for notice in letter.notices if notices.concerns(notice, source)}
    assert concerned == {look.uri for look in s3.look(source) if not isinstance(look, str)}


def test_an_object_that_is_copied_or_uploaded_in_parts_is_told_of_as_made(bucket: Any, queue: str) -> None:
    bucket.put_object(Bucket="data", Key="in/a b.csv", Body=b"x")
    bucket.copy_object(Bucket="data", Key="in/copy+.csv", CopySource={"Bucket": "data", "Key": "in/a b.csv"})
    upload = bucket.create_multipart_upload(Bucket="data", Key="in/parts ü.csv")["UploadId"]
    part = bucket.upload_part(Bucket="data", Key="in/parts ü.csv", UploadId=upload, PartNumber=1, Body=b"x")["ETag"]
    whole = {"Parts": [{"PartNumber": 1, "ETag": part}]}
    bucket.complete_multipart_upload(Bucket="data", Key="in/parts ü.csv", UploadId=upload, MultipartUpload=whole)
    assert told(queue) == {("data", key, True) for key in ("in/a b.csv", "in/copy+.csv", "in/parts ü.csv")}


def test_an_object_removed_is_told_of_as_removed_with_its_very_key(bucket: Any, queue: str) -> None:
    bucket.put_object(Bucket="data", Key="in/a b+ü.csv", Body=b"x")
    drain(queue)
    bucket.delete_object(Bucket="data", Key="in/a b+ü.csv")
    assert told(queue) == {("data", "in/a b+ü.csv", False)}


def test_objects_removed_together_are_each_told_of_as_removed(bucket: Any, queue: str) -> None:
    for key in KEYS:
        bucket.put_object(Bucket="data", Key=key, Body=b"x")
    drain(queue)
    bucket.delete_objects(Bucket="data", Delete={"Objects": [{"Key": key} for key in KEYS]})
    assert told(queue) == {("data", key, False) for key in KEYS}


@pytest.fixture
def through_sns(endpoint: str, aws: Any, queue: str) -> Iterator[dict[str, Any]]:
    """What has S3 tell a topic that the queue is subscribed to."""
    made = client("sns", endpoint)
    topic = made.create_topic(Name="landed")["TopicArn"]
    made.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn(aws, queue))
    yield {"TopicConfigurations": [{"TopicArn": topic, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}]}
    made.close()


@pytest.fixture
def through_eventbridge(endpoint: str, aws: Any, queue: str) -> Iterator[dict[str, Any]]:
    """What has S3 tell a bus that has a rule for the queue."""
    made = client("events", endpoint)
    made.put_rule(Name="landed", EventPattern=json.dumps({"source": ["aws.s3"]}))
    made.put_targets(Rule="landed", Targets=[{"Id": "queue", "Arn": arn(aws, queue)}])
    yield {"EventBridgeConfiguration": {}}
    made.close()


@pytest.mark.parametrize("way", ["through_sns", "through_eventbridge"])
def test_what_s3_tells_by_another_way_says_the_same(way: str, request: pytest.FixtureRequest, endpoint: str, queue: str) -> None:
    made = client("s3", endpoint)
    make_bucket(made, "data")
    made.put_bucket_notification_configuration(Bucket="data", NotificationConfiguration=request.getfixturevalue(way))
    for key in KEYS:
        made.put_object(Bucket="data", Key=key, Body=b"x")
    assert {notice for notice in told(queue) if notice[2]} == {("data", key, True) for key in KEYS}
    made.delete_object(Bucket="data", Key=KEYS[1])
    assert told(queue) == {("data", KEYS[1], False)}
    made.close()


def at_once(aws: Any, queue: str, message: Message) -> None:
    """Let a message that was received come again now."""
    aws.change_message_visibility(QueueUrl=queue, ReceiptHandle=message.receipt, VisibilityTimeout=0)


def test_a_message_that_is_not_deleted_comes_again_and_one_that_is_does_not(aws: Any, queue: str) -> None:
    aws.send_message(QueueUrl=queue, MessageBody="hello")
    (first,) = sqs.receive(queue, wait=0)
    assert (first.body, first.times) == ("hello", 1)
    assert sqs.receive(queue, wait=0) == ()
    at_once(aws, queue, first)
    (again,) = sqs.receive(queue, wait=10)
    assert (again.id, again.body, again.times) == (first.id, "hello", 2)
    assert sqs.delete(queue, [again]) == 0
    assert size(aws, queue) == 0
    assert sqs.receive(queue, wait=0) == ()


def test_a_wait_without_a_message_ends_and_one_in_which_a_message_comes_gives_it(aws: Any, queue: str) -> None:
    assert sqs.receive(queue, wait=1) == ()
    later = threading.Timer(0.5, aws.send_message, kwargs={"QueueUrl": queue, "MessageBody": "hello"})
    later.start()
    assert [message.body for message in sqs.receive(queue, wait=20)] == ["hello"]
    later.join()


def test_what_a_message_says_comes_as_it_was_sent(aws: Any, queue: str) -> None:
    body = json.dumps({"a": "ü\t\n\U0001f600\\u0041<&>\"'"}, ensure_ascii=False)
    aws.send_message(QueueUrl=queue, MessageBody=body)
    assert [message.body for message in sqs.receive(queue, wait=0)] == [body]


def test_more_than_ten_messages_are_received_ten_by_ten_and_deleted_in_one_call(aws: Any) -> None:
    queue = aws.create_queue(QueueName="many")["QueueUrl"]
    for number in range(25):
        aws.send_message(QueueUrl=queue, MessageBody=str(number))
    parts = [sqs.receive(queue, wait=0) for _ in range(3)]
    assert [len(part) for part in parts] == [10, 10, 5]
    messages = [message for part in parts for message in part]
    assert {message.body for message in messages} == {str(number) for number in range(25)}
    assert sqs.delete(queue, messages) == 0
    assert size(aws, queue) == 0


def test_nothing_to_delete_is_not_even_asked_for(queue: str) -> None:
    assert sqs.delete(f"{queue}-that-does-not-exist", []) == 0


def test_messages_that_cannot_be_deleted_are_counted_and_the_others_are_deleted(aws: Any, queue: str) -> None:
    for number in range(11):
        aws.send_message(QueueUrl=queue, MessageBody=str(number))
    messages = [*sqs.receive(queue, wait=0), *sqs.receive(queue, wait=0)]
    bogus = Message(id="x", body="x", receipt="no such receipt", times=1)
    assert sqs.delete(queue, [bogus, *messages, bogus]) == 2
    assert size(aws, queue) == 0


def test_a_message_that_cannot_be_read_is_deleted_where_the_queue_has_no_dead_letters(aws: Any, queue: str) -> None:
    aws.send_message(QueueUrl=queue, MessageBody="hello")
    (message,) = sqs.receive(queue, wait=0)
    assert "deleted" in sqs.bury(queue, message)
    assert size(aws, queue) == 0


def test_a_message_that_cannot_be_read_is_left_for_the_queue_to_move_to_its_dead_letters(aws: Any) -> None:
    dead = aws.create_queue(QueueName="dead")["QueueUrl"]
    policy = json.dumps({"deadLetterTargetArn": arn(aws, dead), "maxReceiveCount": 2})
    queue = aws.create_queue(QueueName="living", Attributes={"RedrivePolicy": policy})["QueueUrl"]
    aws.send_message(QueueUrl=queue, MessageBody="hello")
    for times in (1, 2):
        (message,) = sqs.receive(queue, wait=10)
        assert message.times == times
        assert "deleted" not in sqs.bury(queue, message)
        at_once(aws, queue, message)
    assert sqs.receive(queue, wait=0) == ()
    assert [message.body for message in sqs.receive(dead, wait=0)] == ["hello"]


CALLS: list[Callable[[str], object]] = [
    lambda queue: sqs.receive(queue, wait=0),
    lambda queue: sqs.delete(queue, [Message(id="x", body="x", receipt="x", times=1)]),
    lambda queue: sqs.bury(queue, Message(id="x", body="x", receipt="x", times=1)),
]
each_call = pytest.mark.parametrize("call", CALLS, ids=["receive", "delete", "bury"])


@each_call
def test_a_queue_that_does_not_exist_is_named(access: None, endpoint: str, call: Callable[[str], object]) -> None:
    with pytest.raises(SourceUnavailable, match="123456789012/missing.*NonExistentQueue.*Correct Source.queue"):
        call(f"{endpoint}/123456789012/missing")


@each_call
def test_without_credentials_it_is_said_how_to_give_them(
    queue: str, monkeypatch: pytest.MonkeyPatch, call: Callable[[str], object]
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    forget()
    with pytest.raises(SourceUnavailable, match="Set AWS_ACCESS_KEY_ID"):
        call(queue)


@each_call
def test_credentials_that_are_not_allowed_to_are_told_which_rights_they_need(
    queue: str, endpoint: str, call: Callable[[str], object]
) -> None:
    post(f"{endpoint}/moto-api/reset-auth", b"0")  # from now on the server asks who is calling
    try:
        with pytest.raises(SourceUnavailable, match="allow sqs:ReceiveMessage, sqs:DeleteMessage and sqs:GetQueueAttributes"):
            call(queue)
    finally:
        post(f"{endpoint}/moto-api/reset-auth", b"inf")


@each_call
def test_a_server_that_is_not_there_is_named(access: None, call: Callable[[str], object]) -> None:
    with pytest.raises(SourceUnavailable, match="http://127.0.0.1:9/1/events"):
        call("http://127.0.0.1:9/1/events")


def test_a_server_that_takes_the_call_and_never_answers_is_given_up(access: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        queue = f"http://127.0.0.1:{deaf.getsockname()[1]}/1/events"
        config: Any = sqs._of(queue, 20).meta.config
        assert (config.connect_timeout, config.read_timeout) == (5, 30)
        impatient = sqs._of(queue, -9)  # ten seconds more than this: one
        with pytest.raises(SourceUnavailable, match="does not answer"), sqs._explained(queue):
            impatient.get_queue_attributes(QueueUrl=queue)


@pytest.fixture
def stranger() -> Iterator[Any]:
    """A server that is no SQS: it gives `answer` to everything."""

    class Stranger(BaseHTTPRequestHandler):
        answer = (404, b"<html>not here</html>")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status, body = self.answer
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server, Stranger
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        (404, b"<html>not here</html>"),
        (403, b""),
        (405, b"<?xml version='1.0'?><Error><Code>MethodNotAllowed</Code></Error>"),
        (503, b"later"),
    ],
    ids=["a website", "a gate", "an S3 server", "a balancer"],
)
def test_a_server_that_is_no_sqs_is_told_of(access: None, stranger: Any, answer: tuple[int, bytes]) -> None:
    server, handler = stranger
    handler.answer = answer
    with pytest.raises(SourceUnavailable, match=f"{server.server_address[1]}/1/events"):
        sqs.receive(f"http://127.0.0.1:{server.server_address[1]}/1/events", wait=0)


def test_a_queue_of_amazon_is_asked_in_the_region_of_its_address(access: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    asked = sqs._of("https://sqs.ap-southeast-2.amazonaws.com/123456789012/events", 0).meta
    assert (asked.endpoint_url, asked.region_name) == ("https://sqs.ap-southeast-2.amazonaws.com", "ap-southeast-2")


def test_another_queue_is_asked_where_its_address_says_unless_the_setting_says_otherwise(
    access: None, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # is S3's
    asked = sqs._of(f"{endpoint}/123456789012/events", 0).meta
    assert (asked.endpoint_url, asked.region_name) == (endpoint, REGION)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", endpoint)
    assert sqs._of("http://queue.invalid/123456789012/events", 0).meta.endpoint_url == endpoint
