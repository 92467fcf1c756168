"""SRM: statistics of noise residuals, through logistic regression.

Source: Fridrich, Kodovský 2012, doi:10.1109/TIFS.2012.2190402; the statistics and how they differ:
shared/srm_statistics.py. Differs: logistic regression, with the strength that validates best,
instead of an ensemble. `train.epochs` is the number of augmented views of each image that it is
solved from.
"""

from src.core.cli import InputError
from src.models.shared.blueprint import Blueprint, Channels, DetectorConfig, FrozenNetwork
from src.models.shared.frozen_probe import LinearHead
from src.models.shared.srm_statistics import BLOCK, Statistics


class SRM(Blueprint[FrozenNetwork]):
    """The statistics, and logistic regression on them."""

    def normalization(self, backbone: str) -> tuple[Channels, Channels]:  # noqa: ARG002
        """Return what leaves grey levels as they are: steps of residuals are counted in them."""
        unit = 1 / 255
        return (0.0, 0.0, 0.0), (unit, unit, unit)

    def network(self, config: DetectorConfig, drop_path: float) -> FrozenNetwork:  # noqa: ARG002
        """Return the statistics, which have nothing to learn, and the empty head.

        Raises:
            InputError: the image size is less than a block of the spectrum.
        """
        size = config.view.size
        if size < BLOCK:
            raise InputError(f"model.image_size = {size}: srm needs {BLOCK} or more")
        statistics = Statistics()
        return FrozenNetwork(statistics, LinearHead(statistics.dims, len(config.classes)))


BLUEPRINT = SRM()
