"""Print where a file comes from: a checkpoint.pt, backbone.pt, model.pt, packaged bundle or metrics.json."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from miram.cli import main_guard
from miram.provenance.description import describe_file, readable


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("path", help="the file, or the folder of a packaged bundle")
    add("--json", action="store_true", help="print JSON (default: text)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Describe and print."""
    options = parse(arguments)
    description = describe_file(options.path)
    print(json.dumps(description, indent=1, ensure_ascii=False) if options.json else readable(description))


if __name__ == "__main__":
    main_guard(main)
