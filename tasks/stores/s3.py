"""S3: listing a prefix, reading the very version of an object that was listed, and putting whole objects that were not there."""

import errno
import functools
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import settings
from tasks.addresses import below, split
from tasks.errors import Changed, SourceUnavailable
from tasks.records import Look

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from mypy_boto3_s3 import S3Client


RETRIES = 4  # of a request that S3 did not answer well
_CREDENTIALS = "Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
_EXPIRED = "The credentials have expired: log in anew, or set new ones."
_RIGHTS = "Allow s3:ListBucket and s3:GetObject to these credentials."
_ADVICE = {
    "NoSuchBucket": "Correct the bucket's name.",
    "InvalidAccessKeyId": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "ExpiredToken": _EXPIRED,
    "InvalidToken": _EXPIRED,
    "RequestTimeTooSkewed": "Set this machine's clock: it differs too much from the server's.",
}
_SHA256 = "ratchet-sha256"
_REFUSED = ("AccessDenied", "403", "InvalidObjectState")  # one object: by its own rights or key, or for it is in an archive


@functools.cache
def _client(endpoint: str | None) -> "S3Client":
    import boto3
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard", "max_attempts": RETRIES},
        connect_timeout=5,
        read_timeout=60,
        request_checksum_calculation="when_required",  # some S3 servers do not know the newer default checksums
        response_checksum_validation="when_required",
    )
    return boto3.session.Session().client("s3", endpoint_url=endpoint, config=config)


def look(uri: str) -> Iterator[Look | str]:
    """List the one object of that key, or else what is below it as below a directory, page by page; names are relative to the prefix.

    Raises:
        SourceUnavailable: if there are no credentials, no such bucket, no permission, or no answer.
    """
    bucket, prefix = split(uri)
    with _explained(uri):
        if (single := _single(bucket, prefix)) is not None:
            yield _look_at(bucket, prefix, single)
            return
        pages = _client(settings.read().s3_endpoint).get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=below(prefix))
        for page in pages:
            yield from (_look_at(bucket, prefix, entry) for entry in page.get("Contents", []) if not entry["Key"].endswith("/"))


def look_again(uri: str, objects: Iterable[str]) -> Iterator[Look | str]:
    """Look at single objects of a source, by their addresses; those that are gone or belong to no such source are left out.

    They are listed, not asked for one by one, since only a listing gives the time as precisely as a listing does.

    Raises:
        SourceUnavailable: as `look`.
    """
    bucket, prefix = split(uri)
    keys = {key for where, key in map(split, objects) if where == bucket and not key.endswith("/")}
    with _explained(uri):
        single = _single(bucket, prefix) if keys else None
        for key in sorted(keys):
            wanted = key == prefix if single is not None else key.startswith(below(prefix))
            entry = _entry(bucket, key) if wanted else None
            if entry is not None:
                yield _look_at(bucket, prefix, entry)


def _single(bucket: str, prefix: str) -> Any:
    """Give the object of exactly that key, or None."""
    return None if prefix.endswith("/") or not prefix else _entry(bucket, prefix)


def _entry(bucket: str, key: str) -> Any:
    """Give what a listing says of one key, or None; no key that begins with it is before it."""
    found = _client(settings.read().s3_endpoint).list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents", [])
    return next((entry for entry in found if entry["Key"] == key), None)


@contextmanager
def _explained(uri: str, what: str = "list", rights: str = _RIGHTS) -> Iterator[None]:
    import botocore.exceptions as failures

    try:
        yield
    except (failures.NoCredentialsError, failures.PartialCredentialsError) as error:
        raise SourceUnavailable(
            f"There are no S3 credentials for {uri}: {error}. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role."
        ) from error
    except failures.ClientError as error:
        raise SourceUnavailable(_told(error, f"{what} {uri}", rights)) from error
    except failures.BotoCoreError as error:
        raise SourceUnavailable(f"S3 does not answer for {uri}: {error}. Is AWS_ENDPOINT_URL right, and the network up?") from error


def _told(error: "ClientError", what: str, rights: str = _RIGHTS) -> str:
    """Say what S3 answered instead of doing what was asked, and what to do about it."""
    code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
    if status >= 500 or code == "SlowDown":
        return f"S3 cannot {what} now: {code}, asked {RETRIES + 1} times. Nothing is lost: it is asked again. If it stays so, see the server's status."
    return f"S3 refuses to {what}: {code}. {_ADVICE.get(code, rights)}"


def _look_at(bucket: str, prefix: str, entry: Any) -> Look:
    key = entry["Key"]
    start = below(prefix)
    name = key.removeprefix(start) if key.startswith(start) else key.rpartition("/")[2]
    return Look(
        name=name,
        uri=f"s3://{bucket}/{key}",
        size=entry["Size"],
        stamp=f"{entry['ETag'].strip(chr(34))}:{entry['LastModified'].isoformat()}",
    )


def read(look: Look, block: int) -> Iterator[bytes]:
    """Read the object as it was listed, block by block.

    Raises:
        Changed: if it is gone or replaced by now.
        PermissionError: if it is listed but may not be read.
        SourceUnavailable: if S3 does not give it, or not all of it.
    """
    import botocore.exceptions as failures

    bucket, key = split(look.uri)
    try:
        answer = _client(settings.read().s3_endpoint).get_object(Bucket=bucket, Key=key, IfMatch=look.stamp.partition(":")[0])
        yield from answer["Body"].iter_chunks(block)
    except failures.ClientError as error:
        code = error.response["Error"]["Code"]
        if code in ("NoSuchKey", "PreconditionFailed", "404", "412"):
            raise Changed(
                f"{look.uri} is not the object that was listed any more ({code}); it is looked at again by the next cycle."
            ) from error
        if code in _REFUSED:
            raise PermissionError(errno.EACCES, f"S3 refuses to give it: {code}. Allow s3:GetObject, or restore it", look.uri) from error
        raise SourceUnavailable(_told(error, f"give {look.uri}")) from error
    except failures.BotoCoreError as error:
        raise SourceUnavailable(f"S3 broke off while giving {look.uri}: {error}. Nothing of it was kept; it is asked for again.") from error


def put(file: Path, uri: str) -> bool:
    """Put a file as an object, whole, unless one is there already; tell whether an object with this content is there now.

    The content's SHA-256 is kept with the object, by which it is known again.

    Raises:
        SourceUnavailable: if S3 does not take it.
    """
    import botocore.exceptions as failures

    bucket, key = split(uri)
    client = _client(settings.read().s3_endpoint)
    with file.open("rb") as content, _explained(uri, "take", "Allow s3:PutObject and s3:GetObject to these credentials."):
        digest = hashlib.file_digest(content, "sha256").hexdigest()
        content.seek(0)
        try:
            client.put_object(Bucket=bucket, Key=key, Body=content, Metadata={_SHA256: digest}, IfNoneMatch="*")
        except failures.ClientError as error:
            if error.response["Error"]["Code"] not in ("PreconditionFailed", "412"):
                raise
            return client.head_object(Bucket=bucket, Key=key)["Metadata"].get(_SHA256) == digest
    return True
