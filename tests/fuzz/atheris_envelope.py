"""The envelope under a fuzzer that follows coverage: libFuzzer, by way of atheris.

    python -m tests.fuzz.atheris_envelope [CORPUS …] [-max_total_time=60 and other libFuzzer flags]

Usually started by ``python -m tests.fuzz``. What fails is written to ``crash-…`` where it runs.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["headrace", "tests.fuzz"]):
    from tests.fuzz.oracle import judge


def main() -> None:
    """Fuzz until the time is over, or something fails."""
    atheris.Setup(sys.argv, judge)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
