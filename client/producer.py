"""``python3 -m client.producer [options]`` is ``headrace produce [options]``."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["produce", *sys.argv[1:]]))
