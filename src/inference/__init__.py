"""From images to logits, features and distances."""
