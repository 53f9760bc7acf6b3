"""``python3 -m server.server [options]`` is ``headrace serve [options]``."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["serve", *sys.argv[1:]]))
