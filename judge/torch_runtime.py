"""The detector run by PyTorch, on a GPU where there is one."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from numpy.typing import NDArray

from judge.runtimes import find_file
from src.core.cli import InputError
from src.evaluation.calibration import load_calibration
from src.exporting.description import EXPORT_AGAIN, load_exported
from src.images.crops import Crops
from src.inference.embedder import Embedder
from src.inference.knn_distance import load_knn_index
from src.inference.scorer import prepare_torch
from src.models.shared.detector import load_detector


class TorchRuntime:
    """What training, `predict` and `calibrate` left in a folder."""

    name = "torch"

    def __init__(self, models: Path) -> None:
        """Read the network in the folder `models`.

        Raises:
            InputError: a file is missing or damaged.
        """
        names = (
            "detector.safetensors",
            "detector.json",
            "knn_index.safetensors",
            "calibration.json",
            "detector.onnx.json",
        )
        weights, config, index, calibration, exported = (find_file(models, name) for name in names)
        prepare_torch(threads=1)  # of each part of a batch: see Embedder
        detector = load_detector(weights, config).to(Accelerator().device)
        self._embedder = Embedder(detector)
        self.crop = detector.crops(load_knn_index(index).crops_per_side)
        self.size = detector.config.view.size
        self.calibration = load_calibration(calibration)
        with weights.open("rb") as file:
            self.weights_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        known = load_exported(exported)
        if known.weights_sha256 != self.weights_sha256:
            raise InputError(f"{exported} is older than {weights}: {EXPORT_AGAIN}")
        self.trained_on = known.trained_on

    def embed(self, images: Sequence[Crops]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return log odds (n,) and features (n, width), means over the crops of each image."""
        return self._embedder.embed(images)

    def logits(self, crops: Crops) -> NDArray[Any]:
        """Return the logits of crops, (B, classes)."""
        return self._embedder.logits(crops)
