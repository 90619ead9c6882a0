"""The stack as the command sees it: in which settings what runs differs from the caller's."""

import os
from pathlib import Path

from deployments import stack
from infra import parts, process
from infra.parts import Part
from tasks import settings


def started(home: Path, *, keeper: bool) -> None:
    """Leave the record of an agent that has died, and of a keeper: this process, or one that has died too."""
    home.mkdir(exist_ok=True)
    pid = os.getpid()
    agent = Part("agent", None, owned=True, pid=2**22, since="1", command=("agent",), given=(("RATCHET_PIPELINES", "/elsewhere"),))
    parts.record(settings.read(), [agent, Part("keeper", None, owned=True, pid=pid, since=process.started(pid) if keeper else "1")])


def test_an_agent_that_its_keeper_is_about_to_start_again_is_known_to_have_other_settings(home: Path) -> None:
    started(home, keeper=True)
    assert stack.differences() == (f"RATCHET_PIPELINES is /elsewhere there, {os.environ['RATCHET_PIPELINES']} here",)


def test_an_agent_that_nobody_starts_again_has_no_settings(home: Path) -> None:
    started(home, keeper=False)
    assert stack.differences() == ()
