"""The exported detector against eager PyTorch, and the HTTP API, idle and under load.

The networks are untrained: their speed is the same.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from bench.pictures import make_jpegs
from bench.results import Figure, Outcome, at_least, at_most
from bench.server_load import Answers, memory, serving, under_load
from bench.timing import Cost, interleaved, medians, ratio, repeats
from src.core.params import load_params
from src.core.tables import LABELS
from src.evaluation.calibration import Calibration, save_calibration
from src.export import describe, to_onnx
from src.exporting.description import save_exported
from src.inference.knn_distance import KnnIndex, save_knn_index
from src.models.shared.blueprint import ModelParams
from src.models.shared.detector import Detector, build_detector, save_config
from src.models.shared.pretrained import save_weights
from src.predict import PredictParams
from src.probes.appearance import appearance

BASE = ModelParams("beit3_base", "", "none", 224, "resized", 0.0)
ROUNDS, BASE_ROUNDS, CLIENTS = 40, 6, 50
SECONDS, IDLE_REQUESTS = 30.0, 200
WARM_SECONDS = 10.0  # what libraries load and pools grow to on first use is not growth
CALIBRATION = Calibration(temperature=1.0, threshold=0.5, ood_distance=1.0)


def run(scale: float, folder: Path) -> Outcome:
    """Compare the networks crop by crop, then ask a server of its own."""
    default = build_detector(load_params(ModelParams, "model"), tuple(LABELS.values()), 0).eval()
    figures: list[Figure] = []
    details: dict[str, Any] = {}
    base = build_detector(BASE, tuple(LABELS.values()), 0).eval()
    for detector, rounds in ((default, ROUNDS), (base, BASE_ROUNDS)):
        name = detector.config.name
        costs = compare(detector, repeats(rounds, scale))
        details[name] = medians(costs)
        gain = ratio(costs, "PyTorch", "ONNX Runtime", "cpu")  # of one thread each
        what = f"processor time of a crop, {name}"
        figures.append(Figure(what, "eager PyTorch, batch 1", gain, at_least(3)))
    write_models(default, folder / "models")
    pictures = make_jpegs(CLIENTS)
    with serving(folder / "models") as (address, process):
        idle = under_load(address, pictures, 1, requests=max(5, round(IDLE_REQUESTS * scale)))
        warm = under_load(address, pictures, CLIENTS, seconds=WARM_SECONDS * scale)
        before = memory(process)
        busy = under_load(address, pictures, CLIENTS, seconds=SECONDS * scale)
        growth = memory(process) / before
    figures += [
        Figure("answer of the API, idle, p50", "", idle.milliseconds(50), at_most(200, "ms")),
        Figure("answer of the API, idle, p95", "", idle.milliseconds(95), at_most(400, "ms")),
        Figure("the same, 50 at once, p95", "", busy.milliseconds(95), at_most(10_000, "ms")),
        Figure("answers that are no 200, 50 at once", "", _failed(warm, busy), at_most(0, "")),
        Figure("memory after 50 at once", "after a third of it", growth, at_most(1.05)),
    ]
    details["api"] = {
        "busy_p50_ms": busy.milliseconds(50),
        "images_per_second": busy.per_second,
        "requests": len(busy.seconds),
    }
    return Outcome(figures, details, ("fastapi", "onnxruntime", "torch", "uvicorn"))


def _failed(*loads: Answers) -> float:
    return float(sum(status != 200 for load in loads for status in load.statuses))


def compare(detector: Detector, rounds: int) -> dict[str, list[Cost]]:
    """Return what a crop costs in either, one thread each, as the server runs it."""
    torch.set_num_threads(1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(to_onnx(detector), options)
    size = detector.config.view.size
    crop = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    found: dict[str, Any] = {}

    @torch.no_grad()
    def eager() -> None:
        found["PyTorch"] = detector(torch.from_numpy(crop)).numpy()

    def exported() -> None:
        found["ONNX Runtime"] = session.run(["logits"], {"crops": crop})[0]

    costs = interleaved(rounds, {"PyTorch": eager, "ONNX Runtime": exported})
    np.testing.assert_allclose(found["PyTorch"], found["ONNX Runtime"], atol=1e-4)
    return costs


def write_models(detector: Detector, folder: Path) -> None:
    """Write what the stages from `train` to `export` would leave."""
    folder.mkdir()
    params = load_params(PredictParams, "predict")
    save_weights(detector.network.state_dict(), weights := folder / "detector.safetensors")
    save_config(detector.config, folder / "detector.json")
    save_calibration(CALIBRATION, folder / "calibration.json")
    (folder / "detector.onnx").write_bytes(network := to_onnx(detector))
    size = detector.config.view.size
    crops = np.zeros((1, size, size, 3), dtype=np.uint8)
    (seen,) = onnxruntime.InferenceSession(network).run(["features"], {"crops": crops})
    features = np.random.default_rng(0).normal(size=(params.knn_images, seen.shape[1]))
    known = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float16)
    looks = np.stack([appearance(np.zeros((size, size, 3), np.uint8))] * params.knn_images)
    index = KnnIndex(known, params.crops_per_side, params.knn_neighbours, looks)
    save_knn_index(index, folder / "knn_index.safetensors")
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    exported = describe(detector, CALIBRATION, params.crops_per_side, digest, "Not trained.")
    save_exported(exported, folder / "detector.onnx.json")
