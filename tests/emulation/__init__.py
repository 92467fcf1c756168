"""The proof that other processors compute the same bytes: an emulator runs all of it on them."""
