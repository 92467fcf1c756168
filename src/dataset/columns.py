"""Columns of the tables that describe the data set: shard index, metadata.csv, splits.csv."""

import pyarrow as pa

from src.core.tables import IDENTITY, Schema

_PLACE = {
    "shard": pa.string(),  # file name in data/raw
    "offset": pa.int64(),  # bytes from the start of the shard
    "length": pa.int64(),  # bytes
}

# data/raw/<shard>.csv: what download knows about the images of one shard.
INDEX: Schema = {
    **IDENTITY,
    "given_split": pa.string(),  # the data set's own, one of SPLITS; empty where it has none
    **_PLACE,
    "sha256": pa.string(),
}

# data/metadata.csv: the same, and what the pixels say.
METADATA: Schema = {
    **INDEX,
    "key": pa.uint64(),  # ranks.image_key(image_id)
    "width": pa.int64(),
    "height": pa.int64(),
    "format": pa.string(),  # jpeg, png, webp, ...
    "jpeg_quality": pa.int64(),  # 1 to 100, estimated from the tables; 0: not a JPEG
    "bytes_per_pixel": pa.float64(),
    "brightness": pa.float64(),  # mean luma in [0, 1]
    "contrast": pa.float64(),  # standard deviation of luma in [0, 0.5]
    "sharpness": pa.float64(),  # variance of the Laplacian of luma
    "colourfulness": pa.float64(),  # Hasler and Suesstrunk 2003
    "perceptual_hash": pa.string(),  # 64 bits as 16 hexadecimal digits
}

# data/splits.csv: the images that are used, and all that training needs to know of them.
SPLIT_TABLE: Schema = {"image_id": pa.string(), "split": pa.string(), **IDENTITY, **_PLACE}
