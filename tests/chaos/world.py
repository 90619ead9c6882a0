"""A source that things happen to: files land, are overwritten, copied, broken and removed, as a seed has it; what they held is remembered."""

import hashlib
import io
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from tests.landing import toy_rows

ROWS = 300
BAD = 3


@dataclass(frozen=True)
class Content:
    """What a file held: the ids of its good rows, how many rows break the contract, and whether it can be read at all."""

    ids: frozenset[int]
    bad: int
    readable: bool


@dataclass
class World:
    """A directory, and every content that was ever in it by its SHA-256."""

    source: Path
    random: random.Random
    contents: dict[str, Content] = field(default_factory=dict)
    bytes_of: dict[str, bytes] = field(default_factory=dict)
    made: int = 0
    told: list[str] = field(default_factory=list)

    def happen(self) -> None:
        """Let one thing happen, and tell it."""
        choices: list[tuple[Callable[[], str], int]] = [(self.land, 6), (self.land_broken, 1)]
        if self.files():
            choices += [(self.overwrite, 3), (self.overwrite_with_garbage, 1), (self.copy, 2), (self.remove, 1), (self.go_back, 1)]
        (act,) = self.random.choices([act for act, _ in choices], [weight for _, weight in choices])
        self.told.append(act())

    def files(self) -> list[Path]:
        """Give the files that are there, in the order of their names."""
        return sorted(self.source.glob("*.csv"))

    def land(self) -> str:
        """Let a new file land, by a rename or by a write in place."""
        path = self.source / f"{self.made:03d}.csv"
        self.put(path, self.rows(), renamed=self.random.random() < 0.7)
        return f"{path.name} landed"

    def land_broken(self) -> str:
        """Let a file land that cannot be read."""
        path = self.source / f"{self.made:03d}.csv"
        self.put(path, self.garbage())
        return f"{path.name} landed, garbage"

    def overwrite(self) -> str:
        """Give a file new content."""
        path = self.random.choice(self.files())
        self.put(path, self.rows())
        return f"{path.name} got new content"

    def overwrite_with_garbage(self) -> str:
        """Break a file that is there."""
        path = self.random.choice(self.files())
        self.put(path, self.garbage())
        return f"{path.name} was overwritten with garbage"

    def go_back(self) -> str:
        """Give a file content that some file has had before."""
        path = self.random.choice(self.files())
        digest = self.random.choice(sorted(self.bytes_of))
        self.put(path, self.bytes_of[digest])
        return f"{path.name} got the earlier content {digest[:8]}"

    def copy(self) -> str:
        """Copy a file under another name."""
        path, other = self.random.choice(self.files()), self.source / f"{self.made:03d}.csv"
        self.made += 1
        shutil.copyfile(path, other)
        return f"{path.name} was copied to {other.name}"

    def copy_of(self, name: str, other: str) -> None:
        """Copy a file under a given name."""
        shutil.copyfile(self.source / f"{name}.csv", self.source / f"{other}.csv")

    def remove(self) -> str:
        """Remove a file."""
        path = self.random.choice(self.files())
        path.unlink()
        return f"{path.name} was removed"

    def rows(self, count: int = ROWS, *, flip: bool | None = None, bad: int | None = None) -> bytes:
        """Make rows that no file had before; where nothing is said of it, by chance some of them break the contract."""
        frame = toy_rows(count, first=self.made * 1000, flip=self.made // 4 % 2 == 1 if flip is None else flip)
        bad = self.random.choice([0, 0, BAD]) if bad is None else bad
        if bad:
            frame = frame.with_columns(x=pl.when(pl.int_range(pl.len()) < bad).then(99.0).otherwise("x"))
        out = io.BytesIO()
        frame.write_csv(out, datetime_format="%Y-%m-%dT%H:%M:%S")
        return self._known(out.getvalue(), Content(frozenset(frame["id"].to_list()[bad:]), bad, readable=True))

    def garbage(self) -> bytes:
        """Make a content that cannot be read."""
        return self._known(b"\xff\xfe\x00garbage %d" % self.made, Content(frozenset(), 0, readable=False))

    def _known(self, data: bytes, content: Content) -> bytes:
        digest = hashlib.sha256(data).hexdigest()
        self.contents[digest], self.bytes_of[digest] = content, data
        return data

    def put(self, path: Path, data: bytes, *, renamed: bool = True) -> None:
        """Give a file this content, by a rename or by a write in place."""
        self.made += 1
        if not renamed:
            path.write_bytes(data)
            return
        hidden = path.with_name(f".{path.name}.tmp")
        hidden.write_bytes(data)
        hidden.replace(path)


def at(home: Path, seed: int) -> World:
    """Make an empty world of a seed."""
    source = home / "source"
    source.mkdir(parents=True)
    return World(source, random.Random(seed))
