"""A run on one machine whose clients live in Flower's simulation, with Ray.

Everything but the clients' training is the run's own: cohorts, ledger, noise,
checkpoints.  Flower carries orders and codes between it and the clients.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from flwr.app import Context
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from drdp import _check
from drdp.errors import TrainingError
from drdp.fedsim.flower.exchange import Exchange, StoppedError

__all__ = ["simulated"]

Done = TypeVar("Done")


def simulated(
    work: Callable[[Exchange], Done],
    app: ClientApp,
    *,
    nodes: int,
    patience: float,
    at_once: int | None = None,
) -> Done:
    """What `work` gives, done while Flower's simulation runs.

    Args:
        work: Is given the nodes; runs in a thread of its own.
        app: What each node runs.
        nodes: How many there are, numbered from 0.
        patience: How many seconds to wait for replies.
        at_once: How many clients train at a time, one processor each; by default
            as many as there are processors.

    Guarantees:
        Where this is interrupted, the clients that are training finish, and `work`
        has ended when this returns; a second interrupt ends the process at once.
        Nothing is sent to Flower or Ray about the use of their packages.

    Raises:
        KeyboardInterrupt: If it was interrupted.
        TrainingError: If the simulation cannot begin.
    """
    nodes = _check.count(least=1, nodes=nodes)
    done: list[Done] = []
    failed: list[BaseException] = []
    began, ended, stop = threading.Event(), threading.Event(), threading.Event()
    interrupted, server = threading.Event(), ServerApp()

    def halted() -> bool:
        return stop.is_set() or interrupted.is_set()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        began.set()
        try:
            exchange = Exchange(
                grid,
                patience=patience,
                stopped=lambda: stop.is_set() or interrupted.is_set(),
            )
            done.append(work(exchange))
        except BaseException as error:  # noqa: BLE001 - raised again, in the main thread
            failed.append(error)
        finally:
            ended.set()

    workers = _check.count(least=1, at_once=at_once or os.cpu_count() or 1)
    try:
        with _quiet(), _noted(interrupted):
            run_simulation(
                server,
                app,
                num_supernodes=nodes,
                backend_config={
                    "init_args": {"num_cpus": workers, "log_to_driver": False},
                    "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
                },
            )
    except RuntimeError as error:  # how Flower tells of anything
        stop.set()
        if not failed:
            raise TrainingError(
                f"Flower's simulation failed: {error.__cause__ or error}"
            ) from error
    finally:
        stop.set()
        if began.is_set():
            ended.wait()
    if failed and not isinstance(failed[0], StoppedError):
        raise failed[0]
    if interrupted.is_set() and not done:
        raise KeyboardInterrupt
    if not done:
        raise TrainingError("Flower's simulation ended before the run did")
    return done[0]


@contextlib.contextmanager
def _noted(interrupted: threading.Event) -> Iterator[None]:
    """An interrupt is noted, not raised: Flower's threads would wait for ever."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, frame: object) -> None:
        if interrupted.is_set():
            os._exit(128 + number)  # everything that is kept was kept durably
        interrupted.set()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Flower's log says errors only: what a run tells is told by the run."""
    log = logging.getLogger("flwr")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)
