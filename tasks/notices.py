"""Notices: what the messages of a queue say of objects on S3.

Read are the events of S3 itself, of Ceph's radosgw, of EventBridge, and those that come through SNS. A message is a hint that an object
may have changed and nothing more: it may come twice, late, out of order, or never, and anybody may have written it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from tasks.addresses import below, split

LONGEST = 256 << 10  # characters of a message, SQS's own limit
LONGEST_KEY = 1024
DEEPEST = 3  # envelopes in envelopes
RAW = "ceph:s3"  # radosgw writes keys as they are, S3 as in a form


class Poison(ValueError):
    """The message is none that S3 sends."""


@dataclass(frozen=True)
class Notice:
    """One object of which something is said: that it was made, or (`created` False) that it was removed."""

    bucket: str
    key: str
    created: bool


@dataclass(frozen=True)
class Letter:
    """One message: its notices, or a note why it has none."""

    notices: tuple[Notice, ...]
    note: str | None = None


def read(body: str) -> Letter:
    """Read the body of a message.

    Raises:
        Poison: if it is none that S3, EventBridge or SNS write.

    >>> read('{"Event": "s3:TestEvent"}').note
    'a test event'
    >>> read('{"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": "a+b"}}}]}').notices
    (Notice(bucket='b', key='a b', created=True),)
    """
    return _read(body, DEEPEST)


def concerns(notice: Notice, uri: str) -> bool:
    """Tell whether a notice is about an object of the source `uri`: the one of that key, or one that is below it as below a directory.

    >>> concerns(Notice("data", "in/a.csv", True), "s3://data/in"), concerns(Notice("data", "inner/a.csv", True), "s3://data/in")
    (True, False)
    """
    bucket, prefix = split(uri)
    return notice.bucket == bucket and (notice.key == prefix or notice.key.startswith(below(prefix)))


def _read(body: str, depth: int) -> Letter:
    found = _parsed(body)
    if found.get("Event") == "s3:TestEvent":
        return Letter((), "a test event")
    if isinstance(found.get("Message"), str) and depth > 0:
        return _read(found["Message"], depth - 1)
    if isinstance(found.get("Records"), list):
        return Letter(tuple(_record(entry) for entry in found["Records"]))
    if found.get("source") == "aws.s3":
        return _of_bridge(found)
    raise Poison(f"It has the keys {sorted(map(str, found))[:10]}; expected Records (S3), source aws.s3 (EventBridge) or Message (SNS).")


def _parsed(body: str) -> dict[str, Any]:
    if len(body) > LONGEST:
        raise Poison(f"It has {len(body)} characters; expected at most {LONGEST}.")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Poison(f"It is no JSON: {error}.") from error
    if not isinstance(found, dict):
        raise Poison(f"It is a JSON {type(found).__name__}; expected an object.")
    return found


def _record(entry: Any) -> Notice:
    name = str(_part(entry, "eventName", str))
    bucket, thing = _part(_part(entry, "s3", dict), "bucket", dict), _part(_part(entry, "s3", dict), "object", dict)
    key = str(_part(thing, "key", str))
    plain = key if entry.get("eventSource") == RAW else unquote_plus(key)
    return Notice(str(_part(bucket, "name", str)), _sound(plain), name.removeprefix("s3:").startswith("ObjectCreated"))


def _of_bridge(found: Mapping[str, Any]) -> Letter:
    detail = _part(found, "detail", dict)
    key = _sound(str(_part(_part(detail, "object", dict), "key", str)))
    return Letter((Notice(str(_part(_part(detail, "bucket", dict), "name", str)), key, found.get("detail-type") == "Object Created"),))


def _part(found: Any, name: str, kind: type) -> Any:
    value = found.get(name) if isinstance(found, dict) else None
    if not isinstance(value, kind):
        raise Poison(f"Its {name!r} is {value!r:.80}; expected a {kind.__name__}.")
    return value


def _sound(key: str) -> str:
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:  # half a surrogate pair: JSON can say it, no object can be named so
        raise Poison(f"Its key is {key!r:.80}; expected text.") from error
    if not 0 < size <= LONGEST_KEY or "\0" in key:
        raise Poison(f"Its key is {key!r:.80}; expected 1 to {LONGEST_KEY} bytes.")
    return key
