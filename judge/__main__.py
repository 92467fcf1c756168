"""The command line: `python -m judge photo.jpg`."""

import argparse
from collections.abc import Sequence

from judge.own_images import add_arguments, judge_own_images
from src.core.cli import run


def main(argv: Sequence[str] | None = None) -> None:
    """Judge the images on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m judge", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    args = parser.parse_args(argv)
    if not args.images:
        parser.error("give images, a folder or -")
    judge_own_images(args)


if __name__ == "__main__":
    run(main)
