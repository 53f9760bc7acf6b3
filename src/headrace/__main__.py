"""``python3 -m headrace`` is ``headrace``."""

if __name__ == "__main__":  # and not in the processes that it spawns, which need no command line
    import sys

    from headrace.cli import main

    sys.exit(main())
