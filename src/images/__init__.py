"""From bytes in a tar shard to batches of pixels."""
