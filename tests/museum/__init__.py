"""The museum of bugs: what queues like this one have had, put in on purpose, and what finds it.

``python -m tests.museum`` runs each exhibit and prints the table of docs/museum.md.
"""
