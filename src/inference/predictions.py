"""Columns of the tables that `predict` writes: predictions.csv and neighbours.csv."""

import pyarrow as pa

from src.core.tables import Schema

# data/predictions.csv: one row per image of val and test; every metric derives from it.
PREDICTIONS: Schema = {
    "image_id": pa.string(),
    "split": pa.string(),
    "label": pa.int64(),
    "method": pa.string(),
    "family": pa.string(),
    "category": pa.string(),
    "group": pa.string(),
    "logit": pa.float64(),  # log odds of fake as the detector gives them; see calibration.py
    "distance": pa.float64(),  # from the training images in appearance; see knn_distance.py
}

# data/neighbours.csv: the training images that look most alike to the detector, nearest first.
NEIGHBOURS: Schema = {
    "image": pa.string(),  # image_id of a prediction
    "position": pa.int64(),  # among the neighbours, from 1
    "neighbour": pa.string(),  # image_id of a training image
    "distance": pa.float64(),  # between the detector's features, in [0, 2]
}
