"""How the generated images of the embedded sample are made."""
