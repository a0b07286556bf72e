"""Write the JSON Schema of flow files, or check that the committed one is what the models say.

Usage: python tools/flow_schema.py generate | check
"""

import argparse
import sys
from pathlib import Path

from doubleweave.models.flow_schema import flow_schema_text
from lanes import ROOT, write_atomically

NAME = "src/doubleweave/schemas/flow.schema.json"


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Run one command; return 0 if the file is, or now is, what the models say."""
    parser = argparse.ArgumentParser(description="Generate and check the JSON Schema of flow files.")
    parser.add_argument("command", choices=["generate", "check"])
    checking = parser.parse_args(arguments).command == "check"
    path, wanted = root / NAME, flow_schema_text()
    if path.is_file() and path.read_bytes() == wanted.encode("utf-8"):
        return 0
    if not checking:
        write_atomically(path, wanted)
    print(f'{NAME} is not what the models say: run "make generate"' if checking else NAME)
    return int(checking)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
