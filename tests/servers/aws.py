"""What a process needs to know to use a test's S3 or SQS server, and nothing of what the machine's user has set up."""

from pathlib import Path
from typing import Any

import boto3
import pytest

from tasks.stores import s3, sqs

REGION = "eu-central-1"
UNSET = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL_S3", "AWS_REGION")


def use(monkeypatch: pytest.MonkeyPatch, endpoint: str, access: str, secret: str) -> None:
    """Set address and credentials for the test."""
    for name in UNSET:
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": access,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "AWS_CONFIG_FILE": "/nonexistent",
    }.items():
        monkeypatch.setenv(name, value)
    forget()


def forget() -> None:
    """Have the next clients made anew, from the environment as it is then."""
    s3._client.cache_clear()
    sqs._client.cache_clear()


def bucket(endpoint: str, home: Path) -> Any:
    """Make a bucket of a test's own on a server, with the credentials that are in use."""
    made = boto3.session.Session().resource("s3", endpoint_url=endpoint).Bucket(f"b{abs(hash(str(home)))}")
    made.create()
    return made
