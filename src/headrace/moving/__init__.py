"""Moving a queue to another Redis: a server or a cluster, while its consumers and producers work.

    the old server                      the new one

    take    jobs → queue:moving
                                        arrive  the same batch → where its jobs belong
    leave   queue:moving is deleted

Each step is a script, and each can be repeated: `take` gives what it gave before until that has left,
`arrive` accepts a batch once, `leave` ends the batch that it names. So whoever moves may die anywhere,
and whoever goes on, on any host, moves each job once.
"""

from headrace.moving.move import Move
from headrace.moving.requests import moving_of, on_its_way

__all__ = ["Move", "moving_of", "on_its_way"]
