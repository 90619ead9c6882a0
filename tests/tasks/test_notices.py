"""What a queue's messages say: every form that S3 and its relatives write is read, and anything else is poison, never another error."""

import json
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.notices import Letter, Notice, Poison, concerns, read

Path = tuple[str | int, ...]

ODD = "in/2024/a b+ü%41.csv"


def record(key: str = "in/a.csv", *, name: str = "ObjectCreated:Put", source: str = "aws:s3") -> dict[str, Any]:
    """Make a record as S3 documents it; `key` is written as it is."""
    return {
        "eventVersion": "2.1",
        "eventSource": source,
        "awsRegion": "eu-central-1",
        "eventTime": "2026-01-01T00:00:00.000Z",
        "eventName": name,
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "landing",
            "bucket": {"name": "data", "arn": "arn:aws:s3:::data"},
            "object": {"key": key, "size": 1024, "eTag": "d41d8cd98f00b204e9800998ecf8427e", "sequencer": "0055AED6DCD90281E5"},
        },
    }


def of_s3(*records: Any) -> str:
    return json.dumps({"Records": list(records)})


def of_bridge(key: str = "in/a.csv", kind: str = "Object Created") -> str:
    detail = {"version": "0", "bucket": {"name": "data"}, "object": {"key": key, "size": 5, "sequencer": "617f08299329d189"}}
    return json.dumps({"version": "0", "detail-type": kind, "source": "aws.s3", "resources": ["arn:aws:s3:::data"], "detail": detail})


def of_sns(message: str) -> str:
    return json.dumps({"Type": "Notification", "TopicArn": "arn:aws:sns:eu-central-1:1:t", "Subject": "Amazon S3", "Message": message})


def notice(key: str = "in/a.csv", *, created: bool = True) -> Notice:
    return Notice(bucket="data", key=key, created=created)


def plain(body: str) -> tuple[tuple[str, str, bool], ...]:
    return tuple((found.bucket, found.key, found.created) for found in read(body).notices)


def survives(body: str) -> None:
    """Hold that a body is read or is poison, and that what is read may be used as it is."""
    try:
        letter = read(body)
    except Poison as error:
        assert str(error)
        return
    assert isinstance(letter, Letter)
    for found in letter.notices:
        assert 0 < len(found.key.encode(errors="replace")) <= 1024
        assert "\0" not in found.key


def test_every_record_of_a_message_becomes_a_notice_in_its_order() -> None:
    body = of_s3(record("in/b.csv"), record("in/a.csv"), record("in/b.csv", name="ObjectRemoved:Delete"))
    assert plain(body) == (("data", "in/b.csv", True), ("data", "in/a.csv", True), ("data", "in/b.csv", False))


@pytest.mark.parametrize("written", [quote_plus(ODD), quote_plus(ODD, safe="/"), quote_plus(ODD).lower()])
def test_a_key_of_s3_is_decoded_as_from_a_form_whether_or_not_its_slashes_are_encoded(written: str) -> None:
    assert plain(of_s3(record(written))) == (("data", ODD, True),)


def test_a_key_of_radosgw_is_taken_as_it_is() -> None:
    assert plain(of_s3(record(ODD, source="ceph:s3"))) == (("data", ODD, True),)


def test_a_key_of_eventbridge_is_taken_as_it_is() -> None:
    assert plain(of_bridge(ODD)) == (("data", ODD, True),)


@pytest.mark.parametrize("name", ["Put", "Post", "Copy", "CompleteMultipartUpload"])
@pytest.mark.parametrize("start", ["ObjectCreated", "s3:ObjectCreated"])
def test_every_way_to_make_an_object_is_one(start: str, name: str) -> None:
    assert read(of_s3(record(name=f"{start}:{name}"))).notices[0].created


@pytest.mark.parametrize(
    "name",
    [
        "ObjectRemoved:Delete",
        "ObjectRemoved:DeleteMarkerCreated",
        "s3:ObjectRemoved:Delete",
        "LifecycleExpiration:Delete",
        "LifecycleExpiration:DeleteMarkerCreated",
        "s3:ObjectLifecycle:Expiration:Current",
    ],
)
def test_a_removal_and_an_expiry_make_nothing(name: str) -> None:
    assert plain(of_s3(record(name=name))) == (("data", "in/a.csv", False),)


def test_eventbridge_tells_of_removals_too() -> None:
    assert plain(of_bridge(kind="Object Deleted")) == (("data", "in/a.csv", False),)


def test_a_test_event_has_no_notices_and_a_note_that_says_so() -> None:
    found = read('{"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-01-01T00:00:00.000Z", "Bucket": "data"}')
    assert found.notices == ()
    assert found.note


def test_a_message_without_records_has_no_notices() -> None:
    assert read('{"Records": []}').notices == ()


@pytest.mark.parametrize("inner", [of_s3(record()), of_bridge(), '{"Event": "s3:TestEvent"}'], ids=["s3", "eventbridge", "test event"])
def test_what_comes_through_sns_is_read_as_if_it_came_directly(inner: str) -> None:
    assert read(of_sns(inner)) == read(inner)
    assert read(of_sns(of_sns(inner))) == read(inner)


def test_envelopes_in_envelopes_without_end_are_poison() -> None:
    body = of_s3(record())
    for _ in range(11):
        body = of_sns(body)
    with pytest.raises(Poison, match="expected"):
        read(body)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("", "no JSON"),
        ("hello", "no JSON"),
        ("\ufeff{}", "no JSON"),
        ('{"Records": [', "no JSON"),
        (f'{{"Records": {"9" * 5000}}}', "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('{"a":' * 50_000, "no JSON"),
        ("null", "expected an object"),
        ("NaN", "expected an object"),
        ("[]", "expected an object"),
        ('"{}"', "expected an object"),
        ("{}", "expected Records"),
        ('{"Event": "s3:Other"}', "expected Records"),
        ('{"Records": {}}', "expected Records"),
        ('{"source": "aws.ec2", "detail": {}}', "expected Records"),
        ('{"source": "aws.s3"}', "'detail'"),
        ('{"source": "aws.s3", "detail": {"bucket": {"name": "b"}, "object": []}}', "'object'"),
        ('{"Type": "Notification", "Message": 5}', "expected Records"),
        ('{"Type": "SubscriptionConfirmation", "Message": "You have chosen to subscribe"}', "no JSON"),
    ],
    ids=lambda value: value[:30],
)
def test_what_no_s3_writes_is_poison_and_the_sentence_says_what_it_is(body: str, found: str) -> None:
    with pytest.raises(Poison, match=found):
        read(body)


def paths(value: Any, here: Path = ()) -> list[Path]:
    """Name every place in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(path for name, part in inner for path in paths(part, (*here, name)))]


def without(value: Any, path: Path) -> Any:
    """Copy a JSON value but for the place at `path`."""
    if isinstance(value, dict):
        return {name: without(part, path[1:]) if name == path[0] else part for name, part in value.items() if (name,) != path}
    return [without(part, path[1:]) if index == path[0] else part for index, part in enumerate(value) if (index,) != path]


def replaced(value: Any, path: Path, new: Any) -> Any:
    """Copy a JSON value with another one at `path`."""
    if not path:
        return new
    if isinstance(value, dict):
        return {name: replaced(part, path[1:], new) if name == path[0] else part for name, part in value.items()}
    return [replaced(part, path[1:], new) if index == path[0] else part for index, part in enumerate(value)]


NEEDED: list[Path] = [
    ("eventName",),
    ("s3",),
    ("s3", "bucket"),
    ("s3", "bucket", "name"),
    ("s3", "object"),
    ("s3", "object", "key"),
]


@pytest.mark.parametrize("path", NEEDED, ids=lambda path: ".".join(path))
@pytest.mark.parametrize("wrong", [None, 5, [], {}, True])
def test_a_record_that_lacks_a_needed_part_or_has_another_type_there_is_poison_and_names_the_part(path: Path, wrong: Any) -> None:
    with pytest.raises(Poison, match=repr(path[-1])):
        read(of_s3(record(), without(record(), path)))
    with pytest.raises(Poison):
        read(of_s3(record(), replaced(record(), path, wrong)))


@pytest.mark.parametrize("path", [path for path in paths(record()) if path and not any(path == needed for needed in NEEDED)], ids=str)
def test_a_record_needs_nothing_else(path: Path) -> None:
    assert plain(of_s3(without(record(), path))) == (("data", "in/a.csv", True),)


@pytest.mark.parametrize("key", ["", "a" * 1025, "ü" * 513, "a\0b"], ids=["empty", "long", "long in bytes", "NUL"])
def test_a_key_that_no_object_can_have_is_poison_in_every_form(key: str) -> None:
    for body in (of_s3(record(quote_plus(key))), of_s3(record(key, source="ceph:s3")), of_bridge(key)):
        with pytest.raises(Poison, match="expected 1 to 1024 bytes"):
            read(body)


@pytest.mark.parametrize("key", ["a" * 1024, "ü" * 512, "a\nb", " ", "../../etc/passwd"])
def test_a_key_that_an_object_can_have_is_read(key: str) -> None:
    assert plain(of_s3(record(quote_plus(key)))) == (("data", key, True),)


def test_a_message_that_is_longer_than_256_kib_is_poison_though_it_be_valid() -> None:
    assert read(of_s3(record()).ljust(256 << 10)).notices == (notice(),)
    with pytest.raises(Poison, match=str(1 << 18)):
        read(of_s3(record()).ljust((256 << 10) + 1))


@pytest.mark.timeout(60)  # a minute for what takes milliseconds
@pytest.mark.parametrize(
    "body",
    [
        "[" * (256 << 10),
        '{"a":' * 50_000,
        '"' + "\\u0041" * 43_000 + '"',
        of_s3(record("%41" * 80_000)),
        of_s3(record("%e4" * 80_000)),
        of_s3(record("%" * 250_000)),
        json.dumps({"Records": [1] * 80_000}),
        json.dumps({str(number): number for number in range(18_000)}),
        of_s3(*[record()] * 500),
        of_sns("\\" * 120_000),
        "x" * 50_000_000,
    ],
    ids=["lists", "objects", "escapes", "encoded", "not UTF-8", "percents", "numbers", "keys", "records", "backslashes", "50 MB"],
)
def test_garbage_of_any_size_and_depth_is_read_or_is_poison(body: str) -> None:
    survives(body)


@pytest.mark.parametrize(("uri", "concerned"), [
    ("s3://data", True),
    ("s3://data/", True),
    ("s3://data/in", True),
    ("s3://data/in/", True),
    ("s3://data/i", False),
    ("s3://data/in/a.csv", True),
    ("s3://data/in/a.csv.gz", False),
    ("s3://data/In/", False),
    ("s3://data/out/", False),
    ("s3://data/n/", False),
    ("s3://dat", False),
    ("s3://data2", False),
])  # fmt: skip
def test_a_notice_concerns_a_source_if_the_bucket_is_the_same_and_the_key_begins_with_the_prefix(uri: str, concerned: bool) -> None:
    assert concerns(notice("in/a.csv"), uri) is concerned
    assert concerns(notice("in/a.csv", created=False), uri) is concerned


VALID = [
    json.loads(of_s3(record(), record(ODD, source="ceph:s3"), record(name="ObjectRemoved:Delete"))),
    json.loads(of_bridge(ODD)),
    json.loads(of_sns(of_s3(record()))),
    json.loads(of_sns(of_sns(of_bridge()))),
    {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "data"},
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["Records", "Message", "s3", "detail"]) | st.text(), inner),
    max_leaves=20,
)


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=[])))
def test_any_text_is_read_or_is_poison(body: str) -> None:
    survives(body)


@settings(deadline=None)
@given(JSON)
def test_any_json_is_read_or_is_poison(value: Any) -> None:
    survives(json.dumps(value))


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([(value, path) for value in VALID for path in paths(value)]), st.booleans(), JSON)
def test_a_valid_message_with_any_part_replaced_or_left_out_is_read_or_is_poison(
    place: tuple[Any, Path], leave_out: bool, new: Any
) -> None:
    value, path = place
    changed = without(value, path) if path and leave_out else replaced(value, path, new)
    survives(json.dumps(changed))
    survives(of_sns(json.dumps(changed)))


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(VALID), st.integers(0, 2000), st.integers(0, 20), st.text(max_size=20))
def test_a_valid_message_with_a_piece_cut_out_or_put_in_is_read_or_is_poison(value: Any, first: int, length: int, new: str) -> None:
    body = json.dumps(value)
    first %= len(body)
    survives(body[:first] + new + body[first + length :])


@settings(deadline=None)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=256))
def test_any_key_comes_back_from_every_form(key: str) -> None:
    written = of_s3(record(quote_plus(key)))
    for body in (written, of_sns(written), of_s3(record(key, source="ceph:s3")), of_bridge(key)):
        assert plain(body) == (("data", key, True),)
