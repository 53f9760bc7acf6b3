"""The job queue server: jobs in over HTTP, a live page, metrics; and the maintenance of all queues."""

from headrace.web.application import Access, create_app
from headrace.web.guard import LOOPBACK
from headrace.web.mounted import application
from headrace.web.server import HOST, PORT, serve

__all__ = ["HOST", "LOOPBACK", "PORT", "Access", "application", "create_app", "serve"]
