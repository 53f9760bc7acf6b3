"""``headrace demo``: what happens, in its order."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import msgspec

from headrace import flows
from headrace.clock import monotonic
from headrace.demo.audit import Evidence, audit
from headrace.demo.census import TASK, app
from headrace.demo.inventory import Inventory, plain_loop, take_inventory
from headrace.demo.picture import FRAME_EVERY_S, Picture
from headrace.demo.processes import pause
from headrace.demo.stage import LEASE_S, SLOTS, Stage, Trouble
from headrace.demo.summary import Story, as_data, drawn
from headrace.demo.watch import Moment, Strike, Watch, strike
from headrace.errors import StoreError

_STUCK_S: Final = 60.0  # without any job going anywhere
_LOOK_S: Final = 0.01  # few files are counted quickly: so often it looks whether it is time to kill


def run_demo(
    *,
    files: Path | None = None,
    consumers: int = 3,
    kill: bool = True,
    keep: bool = False,
    json: bool = False,
) -> int:
    """Run the demo on a private server, and clean up.

    Args:
        files: the folder whose files are counted; None for Python's standard library.
        consumers: how many consumers there are.
        kill: kill one of them when half of the jobs have ended, unless it is the only one.
        keep: leave the server's data and all logs behind, and say where.
        json: print the summary as JSON, and what happens on the standard error.

    Returns:
        0 when every job is accounted for, else 1.

    Raises:
        InvalidSetting: there is no such folder, or nothing in it.
        EmbeddedServerError: the server cannot start.
    """
    folder = Path(tempfile.mkdtemp(prefix="headrace-demo-"))
    picture = Picture(aside=json)
    try:
        with _signals_that_clean_up():
            inventory = take_inventory(files, folder)
            with Stage(folder) as stage, picture:
                story = Show(inventory, stage, picture).play(consumers, kill=kill and consumers > 1)
    except (Trouble, StoreError) as error:
        picture.say(f"the demo has failed: {error}")
        return 1
    except KeyboardInterrupt:
        picture.say("stopped; everything that was started has ended")
        raise
    finally:
        if keep:
            picture.say(f"data and logs are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if json:
        print(msgspec.json.format(msgspec.json.encode(as_data(story)), indent=2).decode())
    else:
        picture.finish(drawn(story))
    return 1 if story.audit.problems else 0


class Show:
    """One run of the demo."""

    def __init__(self, inventory: Inventory, stage: Stage, picture: Picture) -> None:
        self._inventory = inventory
        self._stage = stage
        self._picture = picture
        self._say = picture.say
        self._strike: Strike | None = None

    def play(self, consumers: int, *, kill: bool) -> Story:
        """Do everything; give what happened.

        Raises:
            Trouble: it cannot go on.
            StoreError: the private server is gone.
        """
        self._open(consumers)
        began = monotonic()
        jobs = self._enqueue()
        watch = Watch(self._stage.store, self._stage.k, list(jobs))
        self._follow(watch, kill_at=len(jobs) // 2 if kill else None)
        queue_s = monotonic() - began
        self._say("every job has ended; now the same files in a plain loop, to compare")
        began = monotonic()
        paths = [*self._inventory.files, *self._inventory.missing]
        expected = plain_loop(paths, lambda done: self._picture.count(done, len(paths)))
        loop_s = monotonic() - began
        moment = watch.look()
        evidence = Evidence(
            jobs=jobs,
            ends=watch.ends,
            letters=list(self._stage.store.follow(flows.dead_letters(self._stage.k))),
            held=self._strike.held if self._strike else frozenset(),
            snapshot=moment.snapshot,
            expected=expected,
        )
        for complaint in self._stage.close():
            self._say(complaint)
        return Story(
            evidence=evidence,
            audit=audit(evidence),
            moment=moment,
            consumers=self._stage.consumers,
            strike=self._strike,
            lease_s=LEASE_S,
            queue_s=queue_s,
            loop_s=loop_s,
            cpus=os.cpu_count() or 1,
        )

    def _open(self, consumers: int) -> None:
        inventory, stage = self._inventory, self._stage
        left_out = f" ({inventory.left_out:,} left out)" if inventory.left_out else ""
        self._say(f"{len(inventory.files):,} files in {inventory.root}{left_out}")
        self._say(f"a private {stage.server.engine} at {stage.server.url}")
        self._say(f"headrace serve, with a page at {stage.serve()} while this runs")
        stage.consume(consumers)
        self._say(
            f"{consumers} times headrace consume: {SLOTS} slots each, leases of {LEASE_S:g} s"
        )

    def _enqueue(self) -> dict[str, str]:
        paths = self._inventory.in_order()
        began = monotonic()
        jobs = app.enqueue_many(app.call(TASK, path) for path in paths)
        self._say(
            f"{len(jobs):,} jobs accepted in {monotonic() - began:.2f} s: these files, and "
            f"{len(self._inventory.missing)} that are not there"
        )
        return {job.id: path for job, path in zip(jobs, paths, strict=True)}

    def _follow(self, watch: Watch, *, kill_at: int | None) -> None:
        """Watch until every job has ended; kill a consumer when so many have."""
        look_at, progress, stuck_at = 0.0, -1, 0.0
        while not watch.over:
            if kill_at is not None and self._strike is None:
                self._kill(watch, kill_at)
            if monotonic() >= look_at:
                look_at = monotonic() + FRAME_EVERY_S
                moment = watch.look()
                self._picture.show(moment, self._stage.consumers)
                self._recover(watch, moment)
                self._stage.check()
                if moment.progress != progress:
                    progress, stuck_at = moment.progress, monotonic() + _STUCK_S
                elif monotonic() > stuck_at:
                    raise Trouble(f"nothing happens for {_STUCK_S:g} s:\n{self._stage.logs()}")
            pause(_LOOK_S)

    def _kill(self, watch: Watch, kill_at: int) -> None:
        before = watch.ended()
        if before < kill_at:
            return
        victim = self._stage.consumers[len(self._stage.consumers) // 2]
        self._strike = strike(victim, self._stage.store, self._stage.k, before)
        if self._strike is not None:
            self._say(
                f"kill -9 {victim.pid}: {victim.name} is dead, with {len(self._strike.held)} jobs "
                "in its hands"
            )

    def _recover(self, watch: Watch, moment: Moment) -> None:
        if self._strike is not None:
            for news in watch.follow(self._strike, moment):
                self._say(news)


@contextmanager
def _signals_that_clean_up() -> Iterator[None]:
    """Let the signals that end a process run what is to be done at its end."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
