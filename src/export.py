"""Stage `export`: the detector -> ONNX, which runs without PyTorch, and what judging takes."""

import hashlib
import io
import logging
import warnings
from collections.abc import Sequence

import onnx
import torch
from torch import Tensor, nn

from src.core.cli import parse_paths, run
from src.core.files import read_json, replacing
from src.core.params import load_params
from src.evaluation.calibration import Calibration, load_calibration
from src.exporting.description import Exported, save_exported
from src.exporting.training_data import TrainingData, trained_on
from src.inference.embedder import last_layer
from src.inference.knn_distance import load_knn_index
from src.models.shared.detector import Detector, load_detector

ARGUMENTS = "weights config knn_index calibration split onnx onnx_json"
logger = logging.getLogger(__name__)

_OPSET = 17  # of the operators: what runtimes since 2022 know
_MAX_BYTES = 2**31 - 2**20  # of weights: a file of ONNX ends at 2 GiB


class Exportable(nn.Module):
    """A detector as a function of crops alone."""

    def __init__(self, detector: Detector) -> None:
        """Watch what the last layer of `detector` sees."""
        super().__init__()
        self.detector = detector
        layer = last_layer(detector.network, len(detector.config.classes))
        layer.register_forward_pre_hook(self._see)

    def _see(self, _layer: nn.Module, inputs: tuple[Tensor]) -> None:
        self._features = inputs[0].flatten(1)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, classes) and features (B, width) of uint8 (B, size, size, 3)."""
        return self.detector(crops), self._features


def obstacle(detector: Detector) -> str:
    """Return why `detector` cannot be exported, in one line; "" if it can."""
    if detector.blueprint.not_in_network:
        return f"{detector.config.name}: {detector.blueprint.not_in_network}"
    size = sum(weight.nbytes for weight in detector.state_dict().values())
    if size > _MAX_BYTES:
        return f"{detector.config.name}: {size:,} bytes of weights, more than a file of ONNX holds"
    return ""


def to_onnx(detector: Detector) -> bytes:
    """Return the ONNX file of `detector`; the same weights give the same bytes."""
    size = detector.config.view.size
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    names = ["crops", "logits", "features"]
    encoded = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # It is told that a newer exporter exists, and where sizes are frozen, which are constant.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Exportable(detector).eval(),
            (example,),
            encoded,  # type: ignore[arg-type] # the older exporter writes to open files too
            dynamo=False,  # the newer one takes ten times as long, and its graphs run no faster
            opset_version=_OPSET,
            input_names=names[:1],
            output_names=names[1:],
            dynamic_axes={name: {0: "batch"} for name in names},
        )
    return _without_softmax(encoded.getvalue())


def _without_softmax(network: bytes) -> bytes:
    """Return an ONNX file in which each softmax is written as the steps that it is made of.

    ONNX Runtime adds up its own in another order on a processor with AVX-512, and has no switch.
    """
    model = onnx.load_from_string(network)
    nodes = [
        step
        for node in model.graph.node
        for step in (_softmax_steps(node) if node.op_type == "Softmax" else [node])
    ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    encoded: bytes = model.SerializeToString(deterministic=True)
    return encoded


def _softmax_steps(softmax: onnx.NodeProto) -> list[onnx.NodeProto]:
    (given,), (made,), (axis,) = softmax.input, softmax.output, softmax.attribute
    largest, less, power, total, axes = (f"{made}/{part}" for part in ("a", "b", "c", "d", "e"))
    node = onnx.helper.make_node
    return [
        node("ReduceMax", [given], [largest], axes=[axis.i], keepdims=1),
        node("Sub", [given, largest], [less]),
        node("Exp", [less], [power]),
        node("Constant", [], [axes], value_ints=[axis.i]),
        node("ReduceSum", [power, axes], [total], keepdims=1),
        node("Div", [power, total], [made]),
    ]


def describe(
    detector: Detector,
    calibration: Calibration,
    crops_per_side: int,
    weights_sha256: str,
    trained_on: str,
) -> Exported:
    """Return what belongs beside the ONNX file."""
    config = detector.config
    return Exported(
        name=config.name,
        trained_on=trained_on,
        classes=config.classes,
        view=config.view,
        crops_per_side=crops_per_side,
        mean=config.mean,
        std=config.std,
        calibration=calibration,
        weights_sha256=weights_sha256,
        obstacle=obstacle(detector),
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Read, export, write; an empty file where the detector cannot be exported."""
    args = parse_paths(__doc__, ARGUMENTS, argv)
    detector = load_detector(args.weights, args.config)
    digest = hashlib.sha256(args.weights.read_bytes()).hexdigest()
    crops_per_side = load_knn_index(args.knn_index).crops_per_side
    data = trained_on(load_params(TrainingData, "download"), read_json(args.split))
    exported = describe(detector, load_calibration(args.calibration), crops_per_side, digest, data)
    if exported.obstacle:
        logger.warning("not exported: %s", exported.obstacle)
    with replacing(args.onnx) as temporary:
        temporary.write_bytes(b"" if exported.obstacle else to_onnx(detector))
    save_exported(exported, args.onnx_json)


if __name__ == "__main__":
    run(main)
