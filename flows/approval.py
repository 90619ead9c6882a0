"""Approval: ask a person, in Prefect's UI, whether a version that a cycle holds may serve. The run is suspended until somebody resumes it."""

from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from pydantic import Field

from flows.embedded import embedded
from tasks import wording
from tasks.errors import UserError
from tasks.promote import settle_effects
from tasks.records import Decision
from tasks.stores import ledger
from tasks.triggers import APPROVAL


class Answer(RunInput):
    """What the form in the UI asks for."""

    approve: bool = Field(default=False, description="Switch on to let this version take the champion's place; off turns it down.")
    who: str = Field(pattern=r"\S", description="Who answers: it is kept with the decision.")
    why: str = Field(pattern=r"\S", description="Why: it is kept with the decision.")


@embedded(name=APPROVAL, persist_result=True)
def approval(pipeline: str, cycle: int) -> str:
    """Ask about the version of a cycle, and do what the answer says.

    Raises:
        UserError: if it does not wait any more, or the answer names nobody or no reason.
    """
    proposal = ledger.proposal(pipeline, cycle)
    if proposal is None or proposal.state != "waiting":
        raise UserError(
            f"No version of cycle {cycle} of {pipeline!r} waits for an approval{f': it is {proposal.state}' if proposal else ''}."
        )
    found: Answer = suspend_flow_run(wait_for_input=Answer.with_initial_data(description=_question(pipeline, cycle)), key="approval")
    return answered(pipeline, approve=found.approve, who=found.who, why=found.why, cycle=cycle)


def answered(pipeline: str, *, approve: bool, who: str, why: str, cycle: int | None = None) -> str:
    """Approve or reject what waits, tell it outside, and give the sentence that says so.

    Raises:
        UserError: if nobody or no reason is named, or nothing waits.
    """
    if not who.strip() or not why.strip():
        raise UserError("An answer needs who gives it and why; it is kept with the decision. Nothing was changed.")
    if approve:
        made = ledger.approve(pipeline, who=who, why=why, cycle=cycle)
        told = f"Version {made.version} of {pipeline} is the champion now, approved by {who}: {why}"
    else:
        told = (
            f"Version {ledger.reject(pipeline, who=who, why=why, cycle=cycle).candidate.version} of {pipeline} was rejected by {who}: {why}"
        )
    return " ".join((told, *settle_effects(pipeline)))


def _question(pipeline: str, cycle: int) -> str:
    record = ledger.decision(pipeline, cycle)
    told = wording.markdown(Decision.from_dict(record)) if record else ""
    return f"**May this version take the champion's place?** Answer in the form below, with who you are and why.\n\n{told}"
