"""The fault laboratory: real processes, real servers, real faults, and a checker that decides.

    python -m tests.faults            all classes, about 15 minutes
    python -m tests.faults --short    a minute of it; with --third, a third of the classes, by the seed

See docs/laboratory.md.
"""
