import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import nn

from src import export as stage
from src.core.cli import InputError
from src.evaluation.calibration import Calibration, save_calibration
from src.exporting.description import load_exported
from src.exporting.training_data import TrainingData, trained_on
from src.inference.embedder import Embedder
from src.inference.knn_distance import KnnIndex, save_knn_index
from src.models.shared.blueprint import FrozenNetwork, ModelParams, names
from src.models.shared.detector import Detector, build_detector, save_config
from tests.helpers import ROOT
from tests.helpers.make_detectors import random_detector, random_images

CALIBRATION = Calibration(temperature=0.5, threshold=1 / 3, ood_distance=0.1)
SPLIT = {
    "counts": {
        "train": {
            "fake": {"images": 4, "by_method": {"glide": 2, "stylegan2": 2}},
            "real": {"images": 4, "by_method": {"coco": 2, "ffhq": 2}},
        }
    }
}
READ = ("detector.safetensors", "detector.json", "knn_index.safetensors", "calibration.json")
WRITTEN = ("detector.onnx", "detector.onnx.json")


def write_export_inputs(folder: Path) -> None:
    """Write params.yaml and split.json into `folder`."""
    params = {"download": yaml.safe_load((ROOT / "params.yaml").read_text())["download"]}
    (folder / "params.yaml").write_text(json.dumps(params))  # JSON is YAML
    (folder / "split.json").write_text(json.dumps(SPLIT))


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_export_inputs(tmp_path)


def write_inputs(detector: Detector, folder: Path) -> list[str]:
    save_file(detector.network.state_dict(), folder / READ[0])
    save_config(detector.config, folder / READ[1])
    save_knn_index(
        KnnIndex(np.ones((3, 4), np.float16), 2, 1, np.ones((3, 25), np.float32)), folder / READ[2]
    )
    save_calibration(CALIBRATION, folder / READ[3])
    return [str(folder / name) for name in (*READ, "split.json", *WRITTEN)]


def small(name: str) -> Detector:
    """Return the smallest detector of that name, of three classes, with weights that matter."""
    backbone = "vit_tiny_patch16_224" if name.startswith("univfd") else ""
    size = {"beit3_base": 16, "beit3_large": 16}.get(name, 224 if backbone else 32)
    params = ModelParams(name, backbone, "none", size, "native", 0.0)
    detector = build_detector(params, ("real", "glide", "gan"), 0).eval()
    if isinstance(detector.network, FrozenNetwork):
        with torch.no_grad():
            seen = detector.network.backbone(detector.normalised(random_images(1, size)))
        known = torch.randn(30, seen.shape[1], generator=torch.Generator().manual_seed(0))
        head = detector.network.head
        head.solve(known, torch.arange(30) % 3, head.settings[1])
    return detector


@pytest.mark.parametrize("name", [name for name in names() if name != "beit3_large"])
def test_every_detector_exports_or_says_why_not(name: str) -> None:
    detector = small(name)
    if stage.obstacle(detector):
        assert name == "ela_cnn"
        return
    exported = stage.to_onnx(detector)
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    operators = {node.op_type for node in onnx.load_from_string(exported).graph.node}
    assert "Softmax" not in operators  # ONNX Runtime's own depends on the processor
    for count in (1, 5):
        crops = random_images(count, detector.config.view.size).numpy()
        logits, features = session.run(["logits", "features"], {"crops": crops})
        expected = Embedder(detector).logits(crops)
        scale = max(1, float(np.abs(expected).max()))
        np.testing.assert_allclose(logits, expected, atol=1e-4 * scale)
        assert features.shape[0] == count
    assert np.ptp(logits) > 0


def test_the_same_detector_gives_the_same_bytes_and_other_weights_others(tmp_path: Path) -> None:
    detector = random_detector()
    paths = write_inputs(detector, tmp_path)
    written = []
    for _ in range(2):
        stage.main(paths)
        written.append([(tmp_path / name).read_bytes() for name in WRITTEN])
    assert written[0] == written[1]
    for text in (b"/home", b"/tmp", str(Path.cwd()).encode(), b".py"):
        assert text not in written[0][0]
    nn.init.zeros_(detector.network.get_parameter("head.weight"))
    stage.main(write_inputs(detector, tmp_path))
    assert (tmp_path / WRITTEN[0]).read_bytes() != written[0][0]


def test_what_judging_takes_is_beside_it(tmp_path: Path) -> None:
    detector = random_detector(classes=("real", "glide", "gan"))
    stage.main(write_inputs(detector, tmp_path))
    exported = load_exported(tmp_path / WRITTEN[1])
    assert exported.calibration == CALIBRATION  # to the last digit
    assert (exported.classes, exported.view) == (detector.config.classes, detector.config.view)
    assert exported.crops_per_side == 2
    assert not exported.obstacle


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "sample",
            "A demonstration, not for use: trained on the embedded sample alone, 8 images of 4 "
            "methods.",
        ),
        (
            ("sample",),
            "A demonstration, not for use: trained on the embedded sample alone, 8 images of 4 "
            "methods.",
        ),
        ("artifact", "Trained on artifact: 8 images of 4 methods."),
        (("sample", "folder"), "Trained on sample, folder: 8 images of 4 methods."),
    ],
)
def test_it_says_what_the_detector_was_trained_on(
    source: str | tuple[str, ...], expected: str
) -> None:
    assert trained_on(TrainingData(source), SPLIT) == expected


def test_what_cannot_be_exported_leaves_the_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stage.main(write_inputs(small("ela_cnn"), tmp_path))
    reason = "ela_cnn: it sees what another JPEG compression changes, which ONNX cannot compute"
    assert load_exported(tmp_path / WRITTEN[1]).obstacle == reason
    assert (tmp_path / WRITTEN[0]).read_bytes() == b""
    assert reason in caplog.text


def test_a_network_above_what_onnx_holds_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "_MAX_BYTES", 1000)
    assert "bytes of weights, more than a file of ONNX holds" in stage.obstacle(random_detector())


def test_a_description_that_is_none_is_named(tmp_path: Path) -> None:
    stage.main(write_inputs(random_detector(), tmp_path))
    path = tmp_path / WRITTEN[1]
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "crops_per_side": "3"}))
    with pytest.raises(
        InputError, match=r"onnx\.json describes no detector: crops_per_side.*`dvc repro ex"
    ):
        load_exported(path)
