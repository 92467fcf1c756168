"""How far a run is: a bar on a terminal, a line a minute in a log."""

import logging
import time
from typing import Any

from tqdm import tqdm

from src.training.config import Epoch

logger = logging.getLogger(__name__)

LOG_SECONDS = 60.0


class Progress:
    """Shows the images that updates are made of, their pace, and how well they are learnt."""

    def __init__(
        self, done: int, updates: int, per_epoch: int, batch_size: int, is_shown: bool
    ) -> None:
        """Begin at `done` of `updates`, of which `per_epoch` make an epoch."""
        self.done, self.updates, self.per_epoch = done, updates, per_epoch
        self.batch_size, self.is_shown = batch_size, is_shown
        self.bar: tqdm[Any] = tqdm(
            total=updates * batch_size,
            initial=done * batch_size,
            unit="image",
            disable=None if is_shown else True,  # None: on a terminal alone
        )
        self.began = self.told = time.monotonic()

    def show(self, update: int, loss: float, last: Epoch | None) -> None:
        """Say that `update` updates are done, and what `loss` the last one had."""
        epoch, step = divmod(update - 1, self.per_epoch)
        epochs = self.updates // self.per_epoch
        place = f"epoch {epoch + 1}/{epochs}, step {step + 1}/{self.per_epoch}"
        figures = {"loss": f"{loss:.3f}"} | ({"val_mcc": f"{last.val_mcc:.3f}"} if last else {})
        self.bar.set_description(place, refresh=False)
        self.bar.set_postfix(figures, refresh=False)
        self.bar.update(self.batch_size)
        now = time.monotonic()
        if self.is_shown and self.bar.disable and now - self.told > LOG_SECONDS:
            self.told = now
            logger.info("%s: loss %.3f, %s", place, loss, self._pace(update, now - self.began))

    def close(self) -> None:
        """Leave the bar as it is."""
        self.bar.close()

    def _pace(self, update: int, seconds: float) -> str:
        rate = (update - self.done) / seconds
        left = tqdm.format_interval((self.updates - update) / rate)
        return f"{rate * self.batch_size:.0f} images/s, {left} left"
