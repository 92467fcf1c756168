"""The detector as the stage `export` wrote it, run by ONNX Runtime; PyTorch is not imported."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from src.core.arrays import Float32Array, FloatArray
from src.core.cli import InputError
from src.evaluation.calibration import load_calibration
from src.exporting.description import EXPORT_AGAIN, load_exported
from src.images.crops import Crops, GridCrops
from src.images.decode import RGBImage
from src.models.shared.log_odds import fake_logit

_DIGITS = 6  # of a logit, as in Embedder
_PIXELS_AT_ONCE = 2**19  # more need memory and are no faster


def is_exported(models: Path) -> bool:
    """Return whether the folder `models` holds a detector that ONNX Runtime can run."""
    network = models / "detector.onnx"
    return network.is_file() and network.stat().st_size > 0


class OnnxRuntime:
    """What `export` left in a folder; what the other stages left must fit, if it is there."""

    name = "onnx"

    def __init__(self, models: Path, threads: int = 0) -> None:
        """Read the network in the folder `models`; `threads` run it, 0: one per core.

        Raises:
            InputError: a file is missing or damaged, the detector could not be exported, or was
                trained or calibrated anew since.
        """
        network, description = models / "detector.onnx", models / "detector.onnx.json"
        for path in (network, description):
            if not path.is_file():
                raise InputError(f"{path} is missing: {EXPORT_AGAIN}, or choose --runtime torch")
        known = load_exported(description)
        if known.obstacle:
            raise InputError(f"not exported to ONNX: {known.obstacle}; choose --runtime torch")
        self.calibration, self.weights_sha256 = known.calibration, known.weights_sha256
        self.trained_on = known.trained_on
        self._check_age(models, description)
        self.size = known.view.size
        self._grid = GridCrops(known.view, known.crops_per_side)
        self._at_once = max(1, _PIXELS_AT_ONCE // self.size**2)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors alone
        try:
            self._session = onnxruntime.InferenceSession(
                network.read_bytes(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # of half a dozen types, which share no base
            raise InputError(f"{network} is damaged: {error}; {EXPORT_AGAIN}") from error

    def _check_age(self, models: Path, description: Path) -> None:
        weights, calibration = models / "detector.safetensors", models / "calibration.json"
        is_other = False
        if weights.is_file():
            with weights.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            is_other = digest != self.weights_sha256
        if calibration.is_file():
            is_other |= load_calibration(calibration) != self.calibration
        if is_other:
            raise InputError(f"{description} is older than the files beside it: {EXPORT_AGAIN}")

    def crop(self, image: RGBImage) -> Crops:
        """Return the crops that an image is judged by, (crops, size, size, 3)."""
        return self._grid(image)

    def embed(self, images: Sequence[Crops]) -> tuple[FloatArray, Float32Array]:
        """Return log odds (n,) and features (n, width), means over the crops of each image."""
        parts = self._run(np.concatenate(images))
        logits, features = (part.reshape(len(images), -1, part.shape[1]).mean(1) for part in parts)
        return fake_logit(logits).round(_DIGITS), features

    def logits(self, crops: Crops) -> Float32Array:
        """Return the logits of crops, (B, classes)."""
        return self._run(crops)[0]

    def _run(self, crops: Crops) -> list[Float32Array]:
        starts = range(0, len(crops), self._at_once)
        parts = [
            self._session.run(["logits", "features"], {"crops": crops[i : i + self._at_once]})
            for i in starts
        ]
        return [np.concatenate(of_all) for of_all in zip(*parts, strict=True)]
