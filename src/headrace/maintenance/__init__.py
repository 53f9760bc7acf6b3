"""Maintenance: due jobs are promoted, bare items leased, and lost consumers' jobs reclaimed.

Every consumer and every server runs it; one of them leads at a time and does the work, so a queue
recovers with any of them alive.

    thread        runs it beside a program
    maintenance   one turn after the other, and the pause between them
    ├ leadership      who does the work
    ├ registry        which queues have anything to maintain      resting: the others, in groups
    ├ lost_consumers  ends the leases of who is gone              presence: who that is
    ├ upkeep          promotes, sweeps and reclaims, queue by queue
    ├ promoter        promotes when a job falls due, between two turns
    └ duties          what other parts have it do
"""

from headrace.maintenance.duties import Duty, DutyMaker
from headrace.maintenance.maintenance import Maintenance
from headrace.maintenance.thread import MaintenanceThread
from headrace.maintenance.upkeep import reclaiming, steps

__all__ = ["Duty", "DutyMaker", "Maintenance", "MaintenanceThread", "reclaiming", "steps"]
