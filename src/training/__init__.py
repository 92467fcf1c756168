"""How a detector is trained: order of the images, optimiser, loop, checkpoints, validation."""
