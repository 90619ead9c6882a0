"""The keeper: start again what dies of the stack. `python -m infra.keeper`; `ratchet up` starts it, `ratchet down` stops it first.

It imports next to nothing, so that nothing takes it down; should it be killed itself, the parts go on, and `ratchet up` starts it again.
"""

import logging
import signal
import threading
import time
from collections import defaultdict

from infra import stack
from infra.parts import Part
from tasks import settings
from tasks.errors import StackError

logger = logging.getLogger("ratchet.keeper")

EVERY = 1.0  # seconds between two looks at the processes
ASKED_EVERY, PATIENCE = 5.0, 60.0  # seconds between two questions to the servers, and after which a silent one is started anew
RESTARTS, WITHIN, PAUSE = 3, 60.0, 30.0  # after so many restarts within so many seconds the keeper waits that long


def main() -> None:
    """Keep the stack running until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    heard: dict[str, float] = defaultdict(time.monotonic)
    restarts: list[float] = []
    asked = time.monotonic()
    while not stop.wait(EVERY):
        silent: list[Part] = []
        if time.monotonic() - asked > ASKED_EVERY:
            asked = time.monotonic()
            silent = _silent(heard)
        _mend(silent, restarts, stop)


def _silent(heard: dict[str, float]) -> list[Part]:
    """Give the servers that have not answered for too long."""
    found = []
    for part in stack.parts(settings.read()):
        if not stack.silent(part):
            heard[part.name] = time.monotonic()
        elif time.monotonic() - heard[part.name] > PATIENCE:
            logger.warning("%s is alive and has not answered for %.0f s", part.name, PATIENCE)
            heard[part.name] = time.monotonic()
            found.append(part)
    return found


def _mend(silent: list[Part], restarts: list[float], stop: threading.Event) -> None:
    now = time.monotonic()
    restarts[:] = [moment for moment in restarts if now - moment < WITHIN]
    if len(restarts) >= RESTARTS:
        logger.warning("%d parts died within %.0f s; looking again in %.0f s", len(restarts), WITHIN, PAUSE)
        if stop.wait(PAUSE):
            return
    try:
        for part in stack.mend(settings.read(), silent):
            restarts.append(time.monotonic())
            logger.warning("%s had died and was started again as process %s", part.name, part.pid)
    except StackError as error:
        restarts += [time.monotonic()] * RESTARTS
        logger.error("%s", error)


if __name__ == "__main__":
    main()
