"""Addresses of objects and of places on S3: `s3://bucket/key`."""


def split(uri: str) -> tuple[str, str]:
    """Part an address in bucket and key.

    >>> split("s3://data/in/may.csv")
    ('data', 'in/may.csv')
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def below(prefix: str) -> str:
    """Give the beginning of the keys that are below a prefix, as files are below a directory.

    >>> below("in"), below("in/"), "inner/a.csv".startswith(below("in"))
    ('in/', 'in/', False)
    """
    return prefix if prefix.endswith("/") or not prefix else f"{prefix}/"
