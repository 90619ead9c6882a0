"""The agent: a watcher for every pipeline, and the dispatcher of their runs. `python -m deployments.agent`; `ratchet up` keeps one running.

It runs none of the user's code itself: pipelines are imported, and cycles run, in processes forked from a warm one.
"""

import logging
import os
import signal
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.sorting import DeploymentSort
from prefect.exceptions import PrefectHTTPStatusError

from deployments import children, dispatch, reconcile, watches
from deployments.dispatch import Dispatcher
from deployments.watches import Watch
from flows import pipelines
from flows.arrival import Watcher
from flows.embedded import impatient
from tasks.errors import RatchetError, Unreachable
from tasks.stores import ledger
from tasks.triggers import Receipt, pipeline_of

if TYPE_CHECKING:
    from deployments.registration import Registered

logger = logging.getLogger("ratchet.agent")

QUICK = 0.2  # seconds between two looks whether what is watched has changed
EVERY = 5.0  # seconds between two rounds of keeping things in order
PATIENCE = 3.5  # seconds in which the agent ends once it is told to


class Agent:
    """Watchers, dispatcher and what they share."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.dispatcher = Dispatcher(self._ended)
        self._watchers: dict[str, Watcher] = {}  # by stream
        self._registered: dict[str, Registered] = {}
        self._tried: dict[str, tuple[str, float]] = {}
        self._files: dict[str, str] = {}
        self._faults: dict[str, str] = {}  # of pipelines that could not be registered
        self._missing: set[str] = set()  # whose deployment was deleted in Prefect

    def run(self) -> None:
        """Work until told to stop."""
        dispatch.warm()
        thread = threading.Thread(target=self.dispatcher.run, args=(self.stop,), name="dispatch")
        thread.start()
        with impatient():
            while not self.stop.is_set() and thread.is_alive():  # without a dispatcher it ends, and is started again
                self._keep_order()
                self._say_what_is_watched()
        for watcher in self._watchers.values():
            watcher.end()
        thread.join()

    def _say_what_is_watched(self) -> None:
        """Wait for the next round, and publish meanwhile what is watched as soon as it changes."""
        limit, told = time.monotonic() + EVERY, None
        while time.monotonic() < limit:
            found = self._watches()
            if found != told:
                told = self._publish(found)
            if self.stop.wait(QUICK):
                return

    def _watches(self) -> dict[str, Watch]:
        found = {name: Watch(file, "", False, self._faults.get(name, "")) for name, file in self._files.items()}
        for stream, watcher in self._watchers.items():
            if (of := found.get(pipeline_of(stream))) is not None:
                found[stream] = Watch(
                    of.file, watcher.watched.source, watcher.watching, watcher.note or self._faults.get(pipeline_of(stream), "")
                )
        return found

    def _publish(self, found: dict[str, Watch]) -> dict[str, Watch]:
        try:
            watches.publish(found)
        except OSError as error:
            logger.warning("What is watched cannot be written down: %s", error)
        return found

    def _keep_order(self) -> None:
        for step in (self._watch_all, self._find_missing, self._close_dead, self._settle):
            try:
                step()
            except (RatchetError, OSError, *dispatch.FAULTS) as error:
                logger.warning("%s: %s", step.__name__.strip("_"), error)

    def _find_missing(self) -> None:
        """See which deployments Prefect does not know any more: they were deleted, or its database is an old one that was brought back."""
        known = set()
        with get_client(sync_client=True) as client:
            wanted = [identity for found in self._registered.values() for identity in found.deployments]
            for start in range(0, len(wanted), reconcile.MOST):
                page = DeploymentFilter(id=DeploymentFilterId(any_=wanted[start : start + reconcile.MOST]))
                there = client.read_deployments(deployment_filter=page, sort=DeploymentSort.NAME_ASC, limit=reconcile.MOST)
                known |= {deployment.id for deployment in there}
        for name, found in self._registered.items():
            if not found.deployments.keys() <= known:
                self._register_anew(name)

    def _register_anew(self, name: str) -> None:
        self._missing.add(name)
        self._tried.pop(name, None)

    def _watch_all(self) -> None:
        """Watch what is new or was edited; leave alone what has been removed."""
        known = {name: pipelines.digest(name) for name in pipelines.names()}
        self._files = {name: str(pipelines.path(name)) for name in known}
        for name in self._registered.keys() - known.keys():
            self._leave_alone(name)
            self._tried.pop(name, None)
        for name, digest in known.items():
            watchers, (tried, at) = self._watchers_of(name), self._tried.get(name, ("", 0.0))
            good = all(watcher.alive and not watcher.held and watcher.watched.digest == digest for watcher in watchers)
            if watchers and good and name not in self._missing:
                continue
            if tried != digest or time.monotonic() - at > 12 * EVERY:
                self._tried[name] = (digest, time.monotonic())
                self._watch(name)
                self._publish(self._watches())

    def _watch(self, name: str) -> None:
        try:
            found = dispatch.ask(children.registered, name, stop=self.stop)
        except RatchetError as error:
            if not self.stop.is_set():
                self._not_registered(name, error)
            return
        if name in self._registered:
            self._leave_alone(name)
        self._missing.discard(name)
        self._faults.pop(name, None)
        self._registered[name] = found
        self.dispatcher.deployments |= found.deployments
        for branch in found.branches:
            stream = branch.watched.name
            self.dispatcher.limits[branch.deployment] = branch.watched.retrain["time_limit"]
            self._watchers[stream] = Watcher(branch.watched, self.dispatcher.nudge, self._start)
            self._watchers[stream].begin()
            logger.info("%s: watching %s", stream, branch.watched.source)

    def _watchers_of(self, name: str) -> list[Watcher]:
        return [watcher for stream, watcher in self._watchers.items() if pipeline_of(stream) == name]

    def _leave_alone(self, name: str) -> None:
        """Watch a pipeline's sources no more, and start no runs of it."""
        old = self._registered.pop(name)
        for branch in old.branches:
            self._watchers.pop(branch.watched.name).end()
        for identity in old.deployments:
            self.dispatcher.deployments.pop(identity, None)

    def _not_registered(self, name: str, error: RatchetError) -> None:
        """Say why a pipeline could not be registered. What lands is recorded if it was watched before; no run is started in vain."""
        if isinstance(error, Unreachable):
            logger.warning("%s is not registered yet: %s", name, error)
            self._tried.pop(name, None)
            self._faults[name] = "Prefect does not answer; it is asked again"
            return
        logger.error("%s: its file cannot be used: %s", name, error)
        why = Receipt("skipped", "pipeline", f"its file cannot be used: {error}")
        self._faults[name] = why.why
        for watcher in self._watchers_of(name):
            watcher.hold(why)
        if name not in self._registered:
            ledger.record(name, why)

    def _start(self, stream: str, about: str) -> Receipt | None:
        """Start a cycle without the automation; where that was switched off by hand, leave it so and say so."""
        name = pipeline_of(stream)
        try:
            if pipelines.digest(name) != self._watchers[stream].watched.digest:
                return Receipt("waited", "pipeline", "its file was edited and is read first")
            if dispatch.ask(children.automation_is_on, stream, stop=self.stop) is False:
                return Receipt(
                    "waited", "switched_off", "the automation is switched off in Prefect; switch it on, or start a cycle by hand"
                )
            with get_client(sync_client=True) as client:
                deployment = next(part.deployment for part in self._registered[name].branches if part.watched.name == stream)
                if not dispatch.under_way(client, deployment):
                    parameters = {"pipeline": name, "trigger": "arrival"}
                    client.create_flow_run_from_deployment(deployment, parameters=parameters, idempotency_key=f"{stream} {about}")
        except (RatchetError, *dispatch.FAULTS) as error:
            if isinstance(error, PrefectHTTPStatusError) and error.response.status_code == 404:
                self._register_anew(name)
                return Receipt("waited", "prefect", "the deployment was deleted in Prefect; it is registered anew")
            return Receipt("waited", "prefect", f"Prefect does not answer, it is asked again: {error!r:.200}")
        self.dispatcher.nudge()
        return None

    def _close_dead(self) -> None:
        with get_client(sync_client=True) as client:
            reconcile.close_dead(client, self.dispatcher.mine(), tuple(self.dispatcher.deployments))
            reconcile.close_tasks(client)

    def _settle(self) -> None:
        """Do what was left to do outside, where no cycle is about to."""
        for name in self._registered:
            if ledger.unfinished(name) and ledger.lease_holder(name) is None:
                dispatch.ask(children.settle, name, stop=self.stop)

    def _ended(self, name: str) -> None:
        for watcher in self._watchers_of(name):
            watcher.look()


def main() -> None:
    """Run the agent until SIGTERM or SIGINT."""
    logging.basicConfig(force=True, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    agent = Agent()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, partial(_stop, agent))
    agent.run()
    _leave(0)


def _stop(agent: Agent, *_: object) -> None:
    """Ask the agent to end; should it be held up, by a server that is silent for example, it ends all the same."""
    agent.stop.set()
    timer = threading.Timer(PATIENCE, _end_at_once, (agent,))
    timer.daemon = True
    timer.start()


def _end_at_once(agent: Agent) -> None:
    agent.dispatcher.end_at_once()
    _leave(1)


def _leave(code: int) -> None:
    """End this process, and the one that others are forked from, without the second or two that Python takes to put all away."""
    if os.getpgrp() == os.getpid():  # the group is all ours
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        os.killpg(os.getpid(), signal.SIGTERM)
    logging.shutdown()
    os._exit(code)


if __name__ == "__main__":
    main()
