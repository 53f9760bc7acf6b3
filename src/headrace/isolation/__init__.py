"""Isolation: a suspect runs in a process of its own, so that its death names it and harms nobody else.

    consumer │ IsolatedRunner, in a thread that waits   runner.py
             │     ForkServer, Child: their handles     process.py
    ─────────┼──────────────────────────────────────
    spawned  │ the fork server, one for a consumer      fork_server.py
    forked   │ the child, one for a job                 child.py

The consumer knows of it what ``consumer.executor.Isolation`` says. See docs/decisions/0010.
"""
