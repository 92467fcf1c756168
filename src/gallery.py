"""Stage `gallery`: the worst errors -> sheets of them, what speaks for it, what they resemble."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from accelerate import Accelerator
from PIL import Image
from pydantic import Field
from pydantic.dataclasses import dataclass
from tqdm import tqdm

from src.core.cli import InputError, parse_paths, run
from src.core.files import replacing
from src.core.params import STRICT, load_params
from src.core.tables import LABELS, read_table
from src.dataset.columns import SPLIT_TABLE
from src.evaluation.errors import error_columns
from src.explanation.contact_sheet import contact_sheet
from src.explanation.occlusion import occlusion, paint
from src.explanation.upright import upright
from src.images.decode import RGBImage, decode
from src.images.shards import ShardReader
from src.inference.embedder import Embedder
from src.inference.knn_distance import load_knn_index
from src.inference.predictions import NEIGHBOURS, PREDICTIONS
from src.inference.scorer import prepare_torch
from src.models.shared.detector import Detector, load_detector

ARGUMENTS = "errors_csv neighbours_csv splits_csv raw weights config knn_index gallery"
KINDS = ("false positive", "false negative")
TILE = 200  # pixels; ArtiFact's images are 200 x 200


@dataclass(frozen=True, config=STRICT)
class GalleryParams:
    """Section `gallery` of params.yaml."""

    heatmap_cells: Annotated[int, Field(gt=0, le=64)]  # parts a side that are painted over in turn
    threads: Annotated[int, Field(gt=0, le=256)]  # of the CPU, for a part of a batch: see Embedder


class Pictures:
    """The images of a split table, by name."""

    def __init__(self, splits: pd.DataFrame, raw: Path) -> None:
        """Read from the shards in `raw`."""
        self.rows: dict[Any, Any] = splits.set_index("image_id").to_dict("index")
        self.reader = ShardReader(raw)

    def file(self, image_id: str) -> bytes:
        """Return the bytes of an image's file.

        Raises:
            InputError: the splits do not know it.
        """
        if image_id not in self.rows:
            raise InputError(f"{image_id} is in the predictions but not in the splits")
        row = self.rows[image_id]
        return self.reader.read(row["shard"], row["offset"], row["length"])

    def name(self, image_id: str) -> str:
        """Return method and class of an image."""
        row = self.rows[image_id]
        return f"{row['method']} ({LABELS[row['label']]})"


def error_sheet(
    kind: str,
    errors: pd.DataFrame,
    neighbours: pd.DataFrame,
    pictures: Pictures,
    heatmap: "Heatmap",
) -> Image.Image:
    """Return one row per error: the image, its heat-map, the training images it is nearest to."""
    tiles, captions = [], []
    near = {str(image): rows for image, rows in neighbours.groupby("image", sort=False)}
    for error in tqdm(errors.to_dict("records"), desc=f"{kind}s", unit=" images"):
        file = pictures.file(error["image_id"])
        image = decode(file)
        tiles += [upright(tile, file) for tile in (Image.fromarray(image), heatmap(image))]
        said = f"P(fake) {error['score']:.4f}, distance {error['distance']:.2f}"
        captions += [f"{error['method']}\n{said}", "orange speaks for fake,\nteal for real"]
        for row in near[error["image_id"]].sort_values("position").to_dict("records"):
            file = pictures.file(row["neighbour"])
            tiles.append(upright(Image.fromarray(decode(file)), file))
            captions.append(f"{pictures.name(row['neighbour'])}\ndistance {row['distance']:.2f}")
    title = f"{kind}s, the worst first; right of each its heat-map and the nearest training images"
    columns = len(tiles) // len(errors) if tiles else len(KINDS) + 1
    return contact_sheet(title if tiles else f"no {kind}s", tiles, captions, columns, TILE)


class Heatmap:
    """Paints what a detector finds in an image."""

    def __init__(self, detector: Detector, crops_per_side: int, cells: int) -> None:
        """Look at an image as `predict` does, in `cells` x `cells` parts."""
        self.detect = Embedder(detector).logits
        self.crop = detector.crops(crops_per_side)
        self.cells = cells

    def __call__(self, image: RGBImage) -> Image.Image:
        """Return the coloured image, no side above TILE."""
        heat = occlusion(image, self.crop, self.detect, self.cells)
        return paint(image, heat, TILE)


def main(argv: Sequence[str] | None = None) -> None:
    """Read, paint, write one sheet per kind of error."""
    args = parse_paths(__doc__, ARGUMENTS, argv)
    params = load_params(GalleryParams, "gallery")
    errors = read_table(args.errors_csv, error_columns(PREDICTIONS))
    neighbours = read_table(args.neighbours_csv, NEIGHBOURS)
    pictures = Pictures(read_table(args.splits_csv, SPLIT_TABLE), args.raw)
    prepare_torch(params.threads)
    detector = load_detector(args.weights, args.config).to(Accelerator().device)
    crops_per_side = load_knn_index(args.knn_index).crops_per_side
    heatmap = Heatmap(detector, crops_per_side, params.heatmap_cells)
    with replacing(args.gallery) as folder:
        folder.mkdir()
        for kind in KINDS:
            part = errors[errors["error"] == kind]
            sheet = error_sheet(kind, part, neighbours, pictures, heatmap)
            sheet.save(folder / f"{kind.replace(' ', '_')}s.png")


if __name__ == "__main__":
    run(main)
