"""``python -m drdp`` is the command line."""

import sys

if __name__ == "__main__":
    try:
        from drdp.cli import main

        main()
    except KeyboardInterrupt:  # while still importing
        sys.exit(130)
