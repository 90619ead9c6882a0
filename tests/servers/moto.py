"""A server on loopback that speaks S3, SQS, SNS and EventBridge and lets the one tell the other of its events: moto's."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import Request, urlopen

import boto3
from moto.server import ThreadedMotoServer

from tests.servers.aws import REGION

ACCESS, SECRET = "key", "secret"
QUEUED = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]


@contextmanager
def running() -> Iterator[str]:
    """Run the server and give its address."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()
        server._server.server_close()  # type: ignore[union-attr]


def post(url: str, body: bytes = b"") -> None:
    """Tell the server something by its own interface."""
    with urlopen(Request(url, data=body, method="POST", headers={"Content-Type": "text/plain"})) as answer:  # noqa: S310
        answer.read()


def client(service: Any, endpoint: str) -> Any:
    """Give a client for one of its services."""
    return boto3.session.Session().client(service, endpoint_url=endpoint, region_name=REGION)


def arn(aws: Any, queue: str) -> str:
    """Give the name by which others know a queue."""
    return str(aws.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"])


def size(aws: Any, queue: str) -> int:
    """Count the messages of a queue, those in flight among them."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    return sum(int(number) for number in aws.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"].values())


def make_bucket(s3: Any, name: str, queue: str | None = None) -> None:
    """Make a bucket that tells the queue of that ARN of every object made and removed."""
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    if queue:
        tell(s3, name, queue)


def tell(s3: Any, name: str, queue: str | None) -> None:
    """Have a bucket tell that queue of its objects, or none."""
    told = {"QueueConfigurations": [{"QueueArn": queue, "Events": QUEUED}]} if queue else {}
    s3.put_bucket_notification_configuration(Bucket=name, NotificationConfiguration=told)
