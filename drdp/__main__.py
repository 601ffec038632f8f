"""``python -m drdp`` is the command line."""

from drdp.cli import main

if __name__ == "__main__":
    main()
