"""``python3 -m client.consumer [options]`` is ``headrace consume [options]``."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["consume", *sys.argv[1:]]))
