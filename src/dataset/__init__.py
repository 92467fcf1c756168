"""What is known of every image: the index of the shards, metadata.csv, draws."""
