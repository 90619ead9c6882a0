"""Names of files: which are taken in, and why others are not. A name is what the source says it is, composed (NFC) or not (NFD)."""

SUFFIXES = (".csv", ".csv.gz", ".parquet", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
_TEMPORARY = (".tmp", ".part", ".partial", ".crdownload", ".swp", "~")


def unfit(name: str) -> str | None:
    """Say why a file of this name is not taken in, or None.

    >>> unfit("2024/may.csv") is None, unfit(".may.csv"), unfit("notes.txt")
    (True, 'a hidden or temporary name', 'an ending that is not read')
    """
    parts = name.split("/")
    if any(part.startswith((".", "_")) or part.lower().endswith(_TEMPORARY) for part in parts):
        return "a hidden or temporary name"
    if ".." in parts or "\0" in name or not (name.isascii() or _is_plain_text(name)):
        return "a name that is no text (UTF-8), or leads elsewhere; rename it"
    return None if name.lower().endswith(SUFFIXES) else "an ending that is not read"


def _is_plain_text(name: str) -> bool:
    """Tell whether a name is text, without what stands for bytes that are none."""
    return not any("\ud800" <= sign <= "\udfff" for sign in name)
