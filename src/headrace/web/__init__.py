"""The job queue server: jobs in over HTTP, a live page, metrics; and the maintenance of all queues."""

from headrace.web.application import create_app
from headrace.web.server import HOST, PORT, serve

__all__ = ["HOST", "PORT", "create_app", "serve"]
