"""A pytest plugin: the same examples each time, and no search for the smallest one that fails."""

from __future__ import annotations


def pytest_configure() -> None:
    # Late, for pytest has to see the module first.
    from hypothesis import HealthCheck, Phase, settings

    settings.register_profile(
        "mutants",
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        # mutmut runs the tests several times in one process.
        suppress_health_check=[HealthCheck.differing_executors],
    )
    settings.load_profile("mutants")
