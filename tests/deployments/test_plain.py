"""What others wrote is shown as it is, whatever it looks like: no markup, no emoji, nothing that commands the terminal."""

import io
from collections.abc import Iterator
from uuid import uuid4

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from deployments import account, doctor, show
from deployments.doctor import Examined
from deployments.plain import lines, plain, said
from tasks.records import Decision, Look
from tasks.stores import ledger
from tasks.triggers import Receipt

TEXTS = st.text(min_size=1, max_size=30) | st.text("[]/\\abc=#@:\x1b\n", min_size=1, max_size=30)
NASTY = (
    "x[/bold].csv",
    "^c[0-9]+-[a-z/]+$",
    "[link=http://a.b]c[/link]",
    ":x:.csv",
    "a\\",
    "a\\\\",
    "\x1b]0;title\x07",
    "a\nb\u202ec\x85d",
)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[io.StringIO]:
    """What the commands print, of a ledger of these tests' own."""
    printed = io.StringIO()
    console = Console(file=printed, width=3000, force_terminal=False, color_system=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RATCHET_HOME", str(tmp_path_factory.mktemp("plain")))
        patch.delenv("RATCHET_LEDGER_URL", raising=False)
        patch.setattr(show, "console", console)
        patch.setattr(account, "console", console)
        yield printed


def told(text: str) -> str:
    """Let a text be everything that others write, and give the pipeline that has it."""
    name, digest = f"p_{uuid4().hex}", uuid4().hex
    ledger.observe(name, [(Look(text, f"/{digest}", 1, "stamp"), digest, True)])
    ledger.record(name, Receipt("waited", text, text))
    lease = ledger.begin(name, trigger="test", definition="d", flow_run=None)
    ledger.give_up(lease, [(ledger.outstanding(name)[0], text)])
    ledger.decide(
        lease, Decision(pipeline=name, cycle=lease.cycle, verdict="skip", sentence=text, notes=(text,), trigger=text), trained_rows=None
    )
    ledger.release(lease)
    return name


def show_all(name: str, text: str) -> None:
    show.arrivals(name, 5, as_json=False)
    show.decisions(name, 5, as_json=False)
    show.decision(Decision.from_dict(ledger.decision(name, 1) or {}), as_json=False)
    account.why(name, text, as_json=False)


@given(TEXTS)
@settings(deadline=None, max_examples=40)
def test_whatever_a_name_a_rule_or_a_sentence_is_it_is_shown_as_it_is_and_nothing_unprintable_reaches_the_terminal(
    seen: io.StringIO, text: str
) -> None:
    _holds(seen, text)


@pytest.mark.parametrize("text", NASTY)
def test_markup_emoji_names_and_control_characters_are_shown_as_they_are(seen: io.StringIO, text: str) -> None:
    _holds(seen, text)


def _holds(seen: io.StringIO, text: str) -> None:
    seen.seek(0)
    seen.truncate()
    show_all(told(text), text)
    output = seen.getvalue()
    assert all(sign.isprintable() or sign == "\n" for sign in output)
    assert output.count(plain(text).strip()) >= 10  # twice in a table of arrivals, of decisions, in a decision, in a file's story


def test_an_explanation_reaches_the_terminal_without_control_characters(seen: io.StringIO) -> None:
    name = told("a\x1b[31mb\x9b")
    seen.truncate(0)
    show.why(name, None, as_json=False)
    assert not {"\x1b", "\x9b"} & set(seen.getvalue())


def test_what_the_doctor_finds_is_no_markup(seen: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: [Examined(text, False, text, text) for text in NASTY])
    doctor.show_all(as_json=False)
    assert all(seen.getvalue().count(plain(text)) >= 3 for text in NASTY)


@given(st.text())
@example("a\r\nb")
def test_plain_text_is_printable_and_printable_text_is_left_alone(text: str) -> None:
    assert plain(text).isprintable()
    assert plain(plain(text)) == plain(text)
    assert said(text).plain == plain(text)
    assert lines(text).count("\n") == text.count("\n")
