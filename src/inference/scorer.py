"""Detector and images -> logits, every image exactly once whatever the number of processes."""

import os

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from src.core.arrays import keep_freed_memory
from src.core.processor import is_exact
from src.images.loader import BatchLoader, ImageSet, consecutive
from src.models.shared.products import use_onednn


def prepare_torch(threads: int) -> None:
    """Make torch add numbers up in the same order every time, with `threads` CPU threads.

    And with the memory that it has: most of what it needs for a batch it needed for the last.
    """
    keep_freed_memory()
    # cuBLAS reads it when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # With them torch fills fresh memory with NaN, to show who reads what nobody wrote. No operation
    # does: each writes all of its result, so the fill would only cost a pass over memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_num_threads(threads)
    if is_exact():
        use_onednn()


class Scorer:
    """Scores the images of a set; its loader and worker processes are kept for the next call."""

    def __init__(
        self,
        images: ImageSet,
        batch_size: int,
        accelerator: Accelerator,
        workers: int,
        epoch: int = 0,
    ) -> None:
        """Share the batches of `images`, as they look in `epoch`, out among the processes.

        Whole batches are dealt, so the arithmetic on an image does not depend on how many share.
        """
        self.images = images
        self.accelerator = accelerator
        requests = consecutive(len(images), batch_size, epoch)
        rank, processes = accelerator.process_index, accelerator.num_processes
        self.rows_each = -(-len(requests) // processes) * batch_size
        self.batch_size = batch_size
        mine = requests[rank::processes]
        self.rows = sum(len(request.rows) for request in mine)
        pin = accelerator.device.type == "cuda"
        # A process without a share scores a batch all the same, to know how wide logits are.
        self.loader = BatchLoader(images, mine or requests[:1], batch_size, workers, pin)

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> Tensor:
        """Return logits (images, classes), the mean over an image's crops, float32, on the CPU.

        Every process gets all of them, bit for bit the same.
        """
        model.eval()
        mine = torch.cat([self._logits(model, *batch) for batch in self.loader])[: self.rows]
        padded = mine.new_zeros(self.rows_each, mine.shape[1])
        padded[: len(mine)] = mine
        everyone = self.accelerator.gather(padded)  # (processes * rows_each, classes)
        # Process r holds batches r, r + processes, ...: interleave them again. What is padded
        # comes last, because only the last batch can be short.
        shape = self.accelerator.num_processes, -1, self.batch_size, mine.shape[1]
        logits: Tensor = everyone.view(*shape).transpose(0, 1).flatten(0, 2)
        return logits[: len(self.images)].cpu()

    def _logits(self, model: nn.Module, images: Tensor, rows: Tensor) -> Tensor:
        with self.accelerator.autocast():
            logits: Tensor = model(images.to(self.accelerator.device, non_blocking=True))
        return logits.float().view(len(rows), -1, logits.shape[1]).mean(1)
