"""A document in blocks: what a report says, apart from how it is set. Here as markdown; as a page in `tasks.page`, its charts in `tasks.charts`.

Every text in a block is plain text, whatever a user's data holds; it is escaped where it is set, and nowhere else.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, urlsplit

Colour = Literal["challenger", "champion", "other"]
_UNSHOWN = {"Cc", "Cs"}
_REORDERING = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True)
class Link:
    """A text that leads to an address; anything but http and https is shown as text alone."""

    text: str
    url: str

    @property
    def target(self) -> str | None:
        """The address with all that could end it encoded, or None if it is not one to follow."""
        whole = clean(self.url)
        try:
            known = urlsplit(whole).scheme in ("http", "https")
        except ValueError:
            return None
        return quote(whole, safe=":/?#@!$&*+,;=%~-._") if known else None


Cell = str | Link


@dataclass(frozen=True)
class Paragraph:
    """Sentences."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    items: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """Cells in rows; `numbers` are the places of the columns that are set to the right."""

    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numbers: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Mark:
    """One row of a chart: its label, what is drawn (None is undefined), and the same in words."""

    label: str
    value: float | None
    figure: str
    low: float | None = None
    high: float | None = None
    colour: Colour = "challenger"


@dataclass(frozen=True)
class Chart:
    """Rows of bars from 0, or of points with intervals about 0; drawn each in its own unit, or all on one scale.

    `header` names what labels and figures are, `sides` what it means to be left and right of 0, `full` what the scale reaches to at least.
    """

    title: str
    kind: Literal["bars", "intervals"]
    header: tuple[str, str]
    marks: tuple[Mark, ...]
    scale: Literal["own", "shared"] = "shared"
    sides: tuple[str, str] = ("", "")
    full: float = 0.0


@dataclass(frozen=True)
class Drawn:
    """A chart whose figures stand in a table beside it: a text leaves it out."""

    chart: Chart


@dataclass(frozen=True)
class Line:
    """Points of a plot that belong together; "other" is a line to compare with, and is named in no legend."""

    name: str
    points: tuple[tuple[float, float], ...]
    colour: Colour


@dataclass(frozen=True)
class Plot:
    """Lines over two axes, and the table that says the same."""

    title: str
    x: str
    y: str
    lines: tuple[Line, ...]
    table: Table


Block = Paragraph | Bullets | Table | Chart | Drawn | Plot


@dataclass(frozen=True)
class Section:
    """Blocks under a heading."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """Sections under a title; `place` says what the document is about, `lead` is its first sentence."""

    title: str
    place: str
    lead: str
    sections: tuple[Section, ...]


def clean(text: str) -> str:
    """Bring a text to one line, and put a mark in the place of what would be unseen, reorder the line or be no character.

    >>> clean("a\\n\\x00 b\\u202e")
    'a \ufffd b\ufffd'
    """
    line = " ".join(str(text).split())
    return "".join("\ufffd" if char in _REORDERING or unicodedata.category(char) in _UNSHOWN else char for char in line)


def escaped(text: str) -> str:
    r"""Write plain text so that markdown (CommonMark with GitHub's tables and automatic links) shows it as it is.

    >>> print(escaped("# log_loss of *<b>* | [x](http://y)"))
    \# log_loss of \*&lt;b>\* \| [x\](http\://y)
    """
    line = re.sub(r"([\\`*~|])", r"\\\1", clean(text))
    line = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", line)  # inside a word it means nothing
    line = re.sub(r"\](?=[(\[:])", r"\\]", line)
    line = re.sub(r"&(?=#|\w+;)", "&amp;", line).replace("<", "&lt;")
    line = re.sub(r":(?=//)", r"\\:", line)
    line = re.sub(r"(?i)(www)\.", r"\1\\.", line)
    line = re.sub(r"(?<=\S)@(?=\S)", r"\\@", line)
    line = re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", line)
    return re.sub(r"^(>|\[|[#+\-=](?=[\s#+\-=]|$))", r"\\\1", line)


def markdown(document: Document) -> str:
    """Set a document as markdown."""
    parts = [f"# {escaped(document.title)}", escaped(document.place), escaped(document.lead)]
    for section in document.sections:
        parts += [f"## {escaped(section.title)}", *(text for block in section.blocks if (text := _block(block)))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _block(block: Block) -> str:
    if isinstance(block, Paragraph):
        return escaped(block.text)
    if isinstance(block, Bullets):
        return "\n".join(f"- {_cell(item)}" for item in block.items)
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Chart):
        rows = tuple((mark.label, mark.figure) for mark in block.marks)
        return f"{escaped(block.title)}\n\n{_table(Table(block.header, rows))}"
    if isinstance(block, Plot):
        return f"{escaped(block.title)}\n\n{_table(block.table)}"
    return ""


def _table(table: Table) -> str:
    rule = ["---:" if place in table.numbers else "---" for place in range(len(table.header))]
    return "\n".join([_row(table.header), "| " + " | ".join(rule) + " |", *map(_row, table.rows)])


def _row(cells: Sequence[Cell]) -> str:
    return "| " + " | ".join(map(_cell, cells)) + " |"


def _cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return escaped(cell)
    return escaped(cell.text) if cell.target is None else f"[{_bracketed(cell.text)}]({cell.target})"


def _bracketed(text: str) -> str:
    return re.sub(r"(?<!\\)([\[\]])", r"\\\1", escaped(text))
