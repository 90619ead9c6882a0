"""The queue that S3 tells of its events: what it names is looked at, and a message is deleted only once the ledger has what it was about."""

import logging

from tasks.notices import Letter, Poison, concerns, read
from tasks.observe import revisit
from tasks.records import Arrival, Observation
from tasks.stores import ledger, sqs
from tasks.stores.sqs import Message
from tasks.triggers import Watched

logger = logging.getLogger(__name__)

WAIT = 10  # seconds that one long poll lasts


def hear(watched: Watched) -> tuple[Arrival, ...]:
    """Wait for messages, look at the objects that they name, and give the arrivals that are new.

    What a message says is never believed: its objects are looked at. One that cannot be read is kept as a dead letter; one whose object
    S3 does not give now comes again.

    Raises:
        SourceUnavailable: if the queue or the source does not answer; the messages come again.
    """
    queue = watched.queue or ""
    read_of = {message: _read(message) for message in sqs.receive(queue, wait=WAIT)}
    readable = {message: letter for message, letter in read_of.items() if isinstance(letter, Letter)}
    named = {address for letter in readable.values() for address in _addresses(watched, letter)}
    found = revisit(watched.name, watched.source, named) if named else Observation(0, (), (), ())
    unread = {address for address, _ in found.unread}
    sqs.delete(queue, [message for message, letter in readable.items() if unread.isdisjoint(_addresses(watched, letter))])
    for message, poison in read_of.items():
        if isinstance(poison, Poison):
            _bury(watched, message, poison)
    return found.recorded


def _read(message: Message) -> Letter | Poison:
    try:
        return read(message.body)
    except Poison as error:
        return error


def _addresses(watched: Watched, letter: Letter) -> tuple[str, ...]:
    """Give the addresses of the source's objects that a message says were made."""
    return tuple(f"s3://{notice.bucket}/{notice.key}" for notice in letter.notices if notice.created and concerns(notice, watched.source))


def _bury(watched: Watched, message: Message, poison: Poison) -> None:
    """Keep a message that cannot be read as a dead letter, and do away with it."""
    ledger.keep_letter(watched.name, watched.queue or "", message.id, message.body, str(poison))
    what = sqs.bury(watched.queue or "", message)
    logger.warning("%s: a message of the queue cannot be read and is kept as a dead letter (%s): %s", watched.name, what, poison)
