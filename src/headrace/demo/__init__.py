"""The demo: tasks to try Headrace with when no application is named, and a show of a queue at work."""
