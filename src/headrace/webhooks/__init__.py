"""Webhooks: other programs are told of dead letters, and of jobs that wait too long.

    watcher  looks at the queues ─▶ a job for each event ─▶ queue headrace-webhooks ─▶ sending: POST, signed
             every few seconds      before it is marked     retried, like every job

An event is enqueued before it is marked as told, under a key of its own: a server that dies in between
tells nothing twice, and loses nothing. What is sent may come twice all the same, as every job may run
twice; its ``webhook-id`` is the same then.

    hook      the file          sending   one request
    marks     what is told      watcher   what there is to tell
    service   all of it beside a server
"""
