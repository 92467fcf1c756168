"""`python -m judge photo.jpg`: see command_line."""

from judge.command_line import main
from src.core.cli import run

if __name__ == "__main__":
    run(main)
