"""The queue that S3 tells of its events: what it names is looked at, and a message is deleted only once the ledger has what it was about."""

import logging

from tasks.notices import Poison, concerns, read
from tasks.observe import revisit
from tasks.records import Arrival
from tasks.stores import ledger, sqs
from tasks.stores.sqs import Message
from tasks.triggers import Watched

logger = logging.getLogger(__name__)

WAIT = 10  # seconds that one long poll lasts


def hear(watched: Watched) -> tuple[Arrival, ...]:
    """Wait for messages, look at the objects that they name, and give the arrivals that are new.

    What a message says is never believed: its objects are looked at. One that cannot be read is kept as a dead letter.

    Raises:
        SourceUnavailable: if the queue or the source does not answer; the messages come again.
    """
    queue = watched.queue or ""
    messages = sqs.receive(queue, wait=WAIT)
    readable = [(message, addresses) for message in messages if (addresses := _addresses(watched, message)) is not None]
    named = {address for _, addresses in readable for address in addresses}
    recorded = revisit(watched.name, watched.source, named).recorded if named else ()
    sqs.delete(queue, [message for message, _ in readable])
    return recorded


def _addresses(watched: Watched, message: Message) -> tuple[str, ...] | None:
    """Give the addresses of the source's objects that a message says were made, or None if it is no message that can be read."""
    try:
        letter = read(message.body)
    except Poison as error:
        ledger.keep_letter(watched.name, watched.queue or "", message.id, message.body, str(error))
        what = sqs.bury(watched.queue or "", message)
        logger.warning("%s: a message of the queue cannot be read and is kept as a dead letter (%s): %s", watched.name, what, error)
        return None
    return tuple(f"s3://{notice.bucket}/{notice.key}" for notice in letter.notices if notice.created and concerns(notice, watched.source))
