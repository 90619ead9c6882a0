"""Reports and model cards: what they say, what they leave out, and that nothing in the data can become part of the page."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks import card, page, wording
from tasks.document import Bullets, Document, Link, Paragraph, Section, Table, clean, escaped, markdown
from tasks.facts import Facts
from tasks.records import Decision
from tests.told import CHAMPION, DECISION, DETAILS, EVALUATION, FACTS, Seen, hostile, rendered, seen

NASTY = (
    "<script>alert(1)</script>",
    "\"' onload=alert(1) x='",
    "=cmd()|'/C calc'!A0",
    "a|b\\|c\\",
    "```\n# not a heading\n---\n",
    "`*_~[x](javascript:alert(1))![y](http://z/q.png)",
    "]: http://z\n\n[x]: http://z",
    "--><!--",
    "]]></style></title></svg>",
    "&lt;b&gt;&#60;i&#62;",
    "www.example.org https://example.org me@example.org",
    "\u202ename\x00\ud800",
    "1. one\n- two\n> three\n\n    four",
    "=",
    "{{7*7}}${7*7}",
)
payloads = st.one_of(
    st.sampled_from(NASTY),
    st.lists(st.sampled_from([*NASTY, *"<>&\"'`|\\\n\r\t*_~#[]()!=+-:;@ ", "www.", "http://"]), max_size=6).map("".join),
    st.text(max_size=20),
)


def shape(found: Seen) -> Counter[tuple[str, tuple[str, ...]]]:
    """Elements by name and names of attributes."""
    return Counter((tag, tuple(name for name, _ in attributes)) for tag, attributes in found.elements)


def everything(found: Seen) -> str:
    return " ".join(" ".join(found.text).split())


@settings(deadline=None, max_examples=60)
@given(payloads)
@example("".join(NASTY))
def test_no_text_of_data_or_users_becomes_an_element_or_an_attribute_of_the_page(payload: str) -> None:
    plain = seen(page.html(wording.told(hostile("x"))))
    found = seen(page.html(wording.told(hostile(payload))))
    assert not found.wrong
    assert not found.open
    links = {("a", ("href", "rel")): 0}  # an address that is none any more is no link
    assert dict(shape(found)) | links == dict(shape(plain)) | links
    assert not [
        value
        for _, attributes in found.elements
        for name, value in attributes
        if name.startswith("on") or "javascript:" in (value or "")[:11]
    ]


@settings(deadline=None, max_examples=60)
@given(payloads)
@example("".join(NASTY))
def test_no_text_of_data_or_users_changes_the_shape_of_the_markdown(payload: str) -> None:
    for make in (lambda facts: markdown(wording.told(facts)), card.card):
        plain, found = rendered(make(hostile("x"))), rendered(make(hostile(payload)))
        links = {("a", ("href",)): 0}
        assert dict(shape(found)) | links == dict(shape(plain)) | links


@given(st.text(max_size=30) | payloads)
@example("a_b __c__ _d_ x_")
@example("[x]")
@example("\\")
def test_escaped_text_is_shown_as_it_is(text: str) -> None:
    made = rendered(f"| head |\n| --- |\n| {escaped(text)} |\n\n{escaped(text)} end\n\n- {escaped(text)}\n")
    cells = [part for part in made.text if part.strip()]
    assert "".join(made.text).count(clean(text)) >= (3 if clean(text) else 0), cells
    assert {tag for tag, _ in made.elements} == {"table", "thead", "tbody", "tr", "th", "td", "p", "ul", "li"}


@given(st.text(max_size=40) | payloads)
def test_only_addresses_of_the_web_are_links_and_none_ends_its_attribute(text: str) -> None:
    for url in (text, f"javascript:{text}", f"data:{text}", f"http://host/{text}", f"HTTPS://host/{text}"):
        document = Document("t", "p", "l", (Section("s", (Bullets((Link("go", url),)),)),))
        found = [attributes for tag, attributes in seen(page.html(document)).elements if tag == "a"]
        assert all((dict(attributes)["href"] or "").lower().startswith(("http:", "https:")) for attributes in found)
        assert {tag for tag, _ in rendered(markdown(document)).elements} <= {"h1", "h2", "p", "ul", "li", "a"}
    assert Link("go", "http://host/a(b)").target == "http://host/a%28b%29"


def test_the_page_stands_alone_and_says_the_verdict_first() -> None:
    text = page.html(wording.told(FACTS))
    found = seen(text)
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert {"width=device-width, initial-scale=1"} <= {
        dict(attributes).get("content") for tag, attributes in found.elements if tag == "meta"
    }
    assert not {tag for tag, _ in found.elements} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "form",
        "base",
        "video",
        "audio",
        "source",
    }
    named = [
        (tag, name, value)
        for tag, attributes in found.elements
        for name, value in attributes
        if name in ("src", "href", "srcset", "action")
    ]
    assert [value for _, _, value in named] == [DECISION.mlflow_url, DECISION.prefect_url]
    assert all(tag == "a" for tag, _, _ in named)
    assert "url(" not in text
    assert "@import" not in text
    titles = [text.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0] for tag in ("title", "h1")]
    assert titles == ["Champion 2 of electricity stays; boosting is not promoted"] * 2
    assert text.index("<h1>") < text.index("<h2>")
    drawings = [dict(attributes) for tag, attributes in found.elements if tag == "svg"]
    assert drawings
    assert all(one.get("role") == "img" and one.get("aria-label") and "viewbox" in one for one in drawings)


def test_the_page_and_the_markdown_say_the_same() -> None:
    told = wording.told(FACTS)
    texts = everything(seen(page.html(told))), everything(rendered(markdown(told)))
    for words in (
        "✕ FAIL",
        "‖ HOLD",
        "✓ pass",
        "not worse on slice weekend",
        "+0.02 [+0.01, +0.03], better",
        "+0.01 [-0.01, +0.03], could be either",
        "-0.01 [-0.015, -0.005], worse",
        "log_loss on the golden set",
        "too few rows to compare",
        "12.3 % of the rows are predicted otherwise",
        "at level 0.001",
        "0.1 ± 0.01",
        "950 accepted, 50 rejected, 0 repeats",
        "share in quarantine 5 %",
        "0.045 of 0.05 is left this year.",
        "2.4 ms",
        "210 MB",
        "version 7 of s3://lake/electricity/rows",
        "ab" * 32,
        "0123abcd",
        "ef" * 32,
        "version 2 (forest), approved by Ada in cycle 2",
        "part-003.csv has rows in quarantine",
        "previous_row (for reference)",
        "undefined",
    ):
        assert all(words in text for text in texts), words


def test_what_failed_is_named_before_what_passed() -> None:
    text = everything(seen(page.html(wording.told(FACTS))))
    assert text.index("on weekend log_loss", text.index("Rules of the gate")) < text.index("✓ pass")


def test_a_decision_of_an_older_version_is_told_without_what_it_lacks() -> None:
    old = replace(EVALUATION, differences={}, slice_differences={}, changed=None, golden=None)
    facts = Facts(replace(DECISION, evaluation=old, probe=None, budget=None), {"kind": "binary", "seconds": 1.0, "params": {}})
    text = everything(seen(page.html(wording.told(facts))))
    assert "+0.02 [+0.01, +0.03], better" in text
    for absent in ("Error budget", "Serving probe", "What the challenger goes by", "Drift of the inputs", "None"):
        assert absent not in text
    assert "None" not in card.card(facts)


def test_a_cycle_that_trained_nothing_is_told_too() -> None:
    decision = Decision("toy", 2, "skip", "Champion 1 stays. Nothing was trained: nothing is new.", champion=1, previous=1)
    text = wording.markdown(decision)
    assert "Champion 1 of toy stays; nothing was trained" in text
    assert "## Rules" not in text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"verdict": "promote", "champion": 3}, "Version 3 of electricity is promoted: boosting takes the place of champion 2"),
        ({"verdict": "promote", "champion": 1, "previous": None}, "Version 1 of electricity is promoted: boosting is its first model"),
        ({"verdict": "hold", "proposed": 3}, "boosting (version 3) waits for a person to decide; champion 2 of electricity stays"),
        ({"champion": None, "previous": None}, "electricity has no champion yet; boosting is not promoted"),
    ],
)
def test_the_verdict_is_one_sentence(change: dict[str, object], says: str) -> None:
    assert wording.verdict(replace(DECISION, **change)) == says  # type: ignore[arg-type]


def test_why_there_is_no_comparison_is_said() -> None:
    alone = replace(
        EVALUATION, champion=None, difference=None, differences={}, champion_error="its bytes changed", golden_error="no such file"
    )
    kept = wording.markdown(replace(DECISION, evaluation=alone))
    assert "Champion 2 could not be scored: its bytes changed" in kept
    assert "The golden set could not be scored: no such file" in kept
    assert "this would be the first model" in wording.markdown(replace(DECISION, evaluation=alone, previous=None))


def test_effects_that_could_not_be_measured_are_said_to_be_so() -> None:
    facts = replace(FACTS, details=DETAILS | {"effects": [], "effects_problem": "ValueError: no such category"})
    assert "could not be measured: ValueError: no such category" in markdown(wording.told(facts))


def test_the_card_says_what_the_model_is_for_and_where_its_figures_end() -> None:
    promoted = replace(DECISION, verdict="promote", champion=3, served="refit")
    served = replace(CHAMPION, version=3, sha256="12" * 32, how="promoted", who=None)
    text = everything(rendered(card.card(replace(FACTS, decision=promoted, served=served))))
    for words in (
        "Model card: electricity, boosting (version 3)",
        "class: one of two labels, with a probability",
        "counts as 1 UP",
        "period (float64), weekday (float64)",
        "of later ones nothing is known",
        "Could not be computed on these rows: f1.",
        "Worse than the champion on: weekend.",
        "Inputs that moved by more than 10 % between the training rows and the unseen ones: weekday.",
        "In service is its twin",
        "12" * 32,
        "max_iter = 100",
    ):
        assert words in text, words
    kept = everything(rendered(card.card(FACTS)))
    assert "This model is not in service." in kept
    assert "In service is its twin" not in kept
    tested = replace(FACTS, decision=replace(promoted, served="tested"), served=served)
    assert "In service is its twin" not in card.card(tested)


def test_a_long_list_of_arrivals_is_counted() -> None:
    many = replace(DECISION, arrivals=tuple(f"part-{number}.csv" for number in range(25)))
    assert "part-19.csv and 5 more" in wording.markdown(many)


def test_a_table_has_one_cell_for_each_column() -> None:
    document = Document("t", "p", "l", (Section("s", (Table(("a", "b"), (("1", "2"), ("x|y", ""))), Paragraph("end"))),))
    found = rendered(markdown(document))
    assert Counter(tag for tag, _ in found.elements)["td"] == 4
