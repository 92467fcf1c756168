"""The command line: own images -> a verdict each, as text, CSV or JSON."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

_REPOSITORY = Path(__file__).parents[1]
MODELS = (_REPOSITORY if (_REPOSITORY / "dvc.yaml").is_file() else Path()) / "models"
_MAX_CELLS, _MAX_BATCH = 64, 2**16  # as of the parameters of gallery and predict
SOME_UNREADABLE = 3  # exit code; 1, 2 and 130 are those of every command
DESCRIPTION = "Say of images whether they are photographs or were generated."
EPILOG = f"""\
The probability is calibrated; validation has decided from where on an image is called fake.
"unlike training" warns of an image that lies further from the training images than nearly all of
validation does: neither means much there.

exit codes:
  0  every image was judged
  1  there is nothing to judge, or nothing to judge with; the message says why
  2  wrong usage
  {SOME_UNREADABLE}  files that are no readable images, folders that cannot be searched or images
     without a heat-map are named; the others were judged
  130  interrupted; with --output, --resume judges what is left"""


def build_parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m judge",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("images", nargs="*", help="image files, folders to search, or - for paths from stdin")
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--json", action="store_true", help="print one JSON document")
    formats.add_argument("--csv", action="store_true", help="print CSV")
    add("--output", type=Path, metavar="FILE", help="write .csv or .json, when all are judged")
    add("--resume", action="store_true", help="go on with --output where a run was interrupted")
    sorts = "found (default), or most suspicious or furthest from training first, or by path"
    add("--sort", choices=("found", "probability", "distance", "path"), default="found", help=sorts)
    add("--threshold", type=_fraction, metavar="P", help="call fake from P(fake) = P on")
    add("--quiet", action="store_true", help="no summary, no progress bar")
    add("--heatmap", type=Path, metavar="DIR", help="write what speaks for fake or real to DIR")
    cells, batch = "parts a side (%(default)s)", "images at once (%(default)s)"
    add("--heatmap-cells", type=up_to(_MAX_CELLS), default=8, metavar="N", help=cells)
    add("--models", type=Path, default=MODELS, metavar="DIR", help="(%(default)s)")
    runtime = "auto: ONNX Runtime if the detector is exported, else PyTorch"
    add("--runtime", choices=("auto", "onnx", "torch"), default="auto", help=runtime)
    add("--batch-size", type=up_to(_MAX_BATCH), default=32, metavar="N", help=batch)
    return parser


def up_to(limit: int) -> Callable[[str], int]:
    """Return what reads a whole number from 1 to `limit`."""

    def read(text: str) -> int:
        # Python itself refuses to read numbers of thousands of digits.
        is_whole = text.isascii() and text.isdecimal() and len(text) < 10
        if not is_whole or not 1 <= int(text) <= limit:
            raise argparse.ArgumentTypeError(f"{text!r}: give a whole number from 1 to {limit}")
        return int(text)

    return read


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number from 0 to 1")
    return value


def main(argv: Sequence[str] | None = None) -> None:
    """Judge the images on the command line."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if not args.images:
        parser.error("give images, a folder or -")
    if args.resume and not args.output:
        parser.error("--resume needs --output FILE, the one of the run that was interrupted")
    # Not before: NumPy and the rest take seconds, which `--help` need not wait for.
    from judge.own_images import judge_own_images

    judge_own_images(args)
