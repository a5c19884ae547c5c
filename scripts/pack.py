"""Pack the crops of a prepared folder into memory-mapped arrays, from which training reads many times faster."""

from __future__ import annotations

import argparse

from miram.cli import main_guard
from miram.loading.packed import open_packed, pack_folder

EXPLANATION = """\
Pretraining does this itself before its first epoch. The packed copy is in DATASET_DIR/packed, or in --packed_dir: the
pixels of all crops, 16 bit, uncompressed (512 x 512 pixels take half a megabyte). The folder's PNG files remain the
source; if they change, the copy is made again. The same command continues an interrupted run.
"""


def main() -> None:
    """Pack, and print a summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXPLANATION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset_dir", required=True, help="prepared folder of 2D crops")
    parser.add_argument(
        "--shard_gigabytes", type=float, default=4.0, help="largest size of a file (default %(default)s)"
    )
    parser.add_argument("--packed_dir", help="another folder for the copy (default: packed/ in the prepared folder)")
    arguments = parser.parse_args()
    shard_bytes = round(arguments.shard_gigabytes * 2**30)
    folder = pack_folder(arguments.dataset_dir, shard_bytes, arguments.packed_dir)
    store = open_packed(arguments.dataset_dir, arguments.packed_dir)
    size = sum(shard.nbytes for shard in store.shards) / 2**30
    print(f"{len(store.numbers)} crops in {len(store.shards)} files, {size:.2f} GiB, in {folder}")


if __name__ == "__main__":
    main_guard(main)
