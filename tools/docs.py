"""The documentation site.

`docs.py build` writes it to dist/site, or to another folder, and fails on any warning. Nothing is fetched.
"""

import argparse
import logging
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "dist" / "site"


def build(folder: Path) -> None:
    """Build the site into `folder`, whose files are replaced.

    Raises:
        mkdocs.exceptions.Abort: There was a warning.
    """
    os.environ["NO_MKDOCS_2_WARNING"] = "1"  # a notice that is of no use to who builds pages
    from mkdocs.commands.build import build as build_site
    from mkdocs.config import load_config

    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    config = load_config(str(ROOT / "tools" / "site.yml"), strict=True, site_dir=str(folder))
    config.plugins.on_startup(command="build", dirty=False)
    build_site(config)
    config.plugins.on_shutdown()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["build"])
    parser.add_argument("--into", type=Path, default=SITE, help="the folder of the site; dist/site if not given")
    given = parser.parse_args()
    build(given.into.resolve())
    print(f"{given.into / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
