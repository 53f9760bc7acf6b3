"""``headrace demo``: set the stage, let it play, clean up, tell how it ended."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import msgspec

from headrace.demo.inventory import take_inventory
from headrace.demo.picture import Picture
from headrace.demo.play import Play
from headrace.demo.stage import Stage, Trouble
from headrace.demo.story import as_data
from headrace.demo.summary import drawn
from headrace.embedded import ended_by_signals
from headrace.errors import StoreError


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
        with ended_by_signals(lambda number: 128 + number):
            inventory = take_inventory(files, folder)
            with Stage(folder) as stage, picture:
                story = Play(inventory, stage, picture).run(consumers, kill=kill and consumers > 1)
    except (Trouble, StoreError) as error:
        picture.say(f"the demo has failed: {error}")
        return 1
    except (KeyboardInterrupt, SystemExit):
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
