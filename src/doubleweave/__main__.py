"""The command `doubleweave`, also as `python -m doubleweave`. Without its extra it says what to install."""

import sys


def main() -> int:
    """Run the command line and return its exit code."""
    try:
        from doubleweave.cli import main as run
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] == "doubleweave":
            raise
        print(error, file=sys.stderr)
        return 2
    return run()


if __name__ == "__main__":
    sys.exit(main())
