"""Text in the terminal that was written by others: names of files, rules, reasons. None of it is markup, and none commands the terminal."""

from rich.text import Text


def plain(text: str) -> str:
    r"""Give a text with everything that is not to be printed written out: control characters, line ends, turns of the direction.

    >>> print(plain("a\x1b[31m\n.csv"))
    a\x1b[31m\n.csv
    """
    return text if text.isprintable() else "".join(sign if sign.isprintable() else _written_out(sign) for sign in text)


def said(*parts: str | tuple[str, str]) -> Text:
    """Put a text together from parts, each a text or (text, style). What looks like markup or an emoji's name stays what it is.

    >>> said("file ", ("x[/bold].csv", "bold")).plain
    'file x[/bold].csv'
    """
    return Text.assemble(*(plain(part) if isinstance(part, str) else (plain(part[0]), part[1]) for part in parts))


def lines(text: str) -> str:
    """Give a text of several lines, each of them plain."""
    return "\n".join(plain(line) for line in text.split("\n"))


def _written_out(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")
