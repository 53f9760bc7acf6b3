"""The deterministic simulation: real consumers on a virtual clock, over a simulated Redis and network.

    world      the clock, the events, the nodes (one process each, with an event loop of its own)
    fiber      code that blocks, the lease keeper's thread, run in turn with everything else
    network    the connections, real stores on top of them
    server     Redis: the scripts as ``tests/property/model.py`` has them, blocking commands, clients
    faults     what goes wrong, drawn from the seed
    scenario   who is there, and what there is to do, drawn from the seed
    checker    decides the invariants, from what can be seen from outside
    run        one seed from its beginning to its verdict

What is beside the core is simulated on real scripts:

    real           Redis, whose scripts run on a server by the world's clock
    flows          what there is to do: workflows, hand-off, batches, limits, a schedule
    flow_tasks     their tasks
    flow_checker   what is promised of limits and schedules
    workflow_checker   and of workflows

``python -m tests.simulation`` runs seeds; docs/simulation.md says how to read them.
"""
