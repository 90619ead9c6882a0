"""SQS: the queue that S3 tells of its events. What is received comes again until it is deleted."""

import functools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks import settings
from tasks.errors import SourceUnavailable

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

MOST = 10  # messages that one request receives or deletes


@dataclass(frozen=True)
class Message:
    """One message as it was received; `receipt` is what deletes it, `times` how often it has been received."""

    id: str
    body: str
    receipt: str
    times: int


@functools.cache
def _client(endpoint: str | None, region: str | None, wait: int) -> "SQSClient":
    import boto3
    from botocore.config import Config

    config = Config(retries={"mode": "standard", "max_attempts": 3}, connect_timeout=5, read_timeout=wait + 10)
    return boto3.session.Session().client("sqs", endpoint_url=endpoint, region_name=region, config=config)


def _of(queue: str, wait: int) -> "SQSClient":
    """Give the client for a queue: its region is in its URL on Amazon, elsewhere its host is the endpoint."""
    on_amazon = re.match(r"https://sqs\.([\w-]+)\.amazonaws\.com", queue)
    if on_amazon:
        return _client(None, on_amazon[1], wait)
    return _client(settings.read().sqs_endpoint or "/".join(queue.split("/")[:3]), settings.read().region, wait)


def receive(queue: str, *, wait: int) -> tuple[Message, ...]:
    """Wait up to `wait` seconds for messages, and give at most ten.

    Raises:
        SourceUnavailable: if there is no such queue, no permission, or no answer.
    """
    with _explained(queue):
        answer = _of(queue, wait).receive_message(
            QueueUrl=queue, MaxNumberOfMessages=MOST, WaitTimeSeconds=wait, MessageSystemAttributeNames=["ApproximateReceiveCount"]
        )
    return tuple(
        Message(
            id=found.get("MessageId", ""),
            body=found.get("Body", ""),
            receipt=found.get("ReceiptHandle", ""),
            times=int(found.get("Attributes", {}).get("ApproximateReceiveCount", "1")),
        )
        for found in answer.get("Messages", [])
    )


def delete(queue: str, messages: Sequence[Message]) -> int:
    """Delete messages, and count those that could not be: they come again.

    Raises:
        SourceUnavailable: as `receive`.
    """
    failed = 0
    for first in range(0, len(messages), MOST):
        part = messages[first : first + MOST]
        with _explained(queue):
            answer = _of(queue, 0).delete_message_batch(
                QueueUrl=queue, Entries=[{"Id": str(number), "ReceiptHandle": message.receipt} for number, message in enumerate(part)]
            )
        failed += len(answer.get("Failed", []))
    return failed


def bury(queue: str, message: Message) -> str:
    """Do away with a message that cannot be read: leave it to the queue's own dead-letter queue, or else delete it; say which.

    Raises:
        SourceUnavailable: as `receive`.
    """
    with _explained(queue):
        found = _of(queue, 0).get_queue_attributes(QueueUrl=queue, AttributeNames=["RedrivePolicy"])
    if "RedrivePolicy" in found.get("Attributes", {}):
        return "the queue moves it to its dead-letter queue"
    delete(queue, [message])
    return "deleted from the queue"


@contextmanager
def _explained(queue: str) -> Iterator[None]:
    import botocore.exceptions as failures

    try:
        yield
    except (failures.NoCredentialsError, failures.PartialCredentialsError, failures.NoRegionError) as error:
        raise SourceUnavailable(
            f"The queue {queue} cannot be asked: {error}. Set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_DEFAULT_REGION, or give the machine a role. "
            "The sweeps go on without it."
        ) from error
    except failures.ClientError as error:
        code = error.response["Error"]["Code"]
        raise SourceUnavailable(
            f"SQS refuses {queue}: {code}. Correct Source.queue, and allow sqs:ReceiveMessage, sqs:DeleteMessage and sqs:GetQueueAttributes. "
            "The sweeps go on without it."
        ) from error
    except failures.BotoCoreError as error:
        raise SourceUnavailable(f"SQS does not answer for {queue}: {error}. The sweeps go on without it.") from error
