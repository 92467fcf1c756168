"""A small ArtiFact with every trap of the real one, as file names and contents."""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from typing import Literal

from src.core.hashing import image_key

# method -> target of each image; 0 is real, any other code a kind of generator
TARGETS = {
    "coco": [0] * 6,
    "cycle_gan": [0, 1, 0, 2, 0, 1],  # holds both classes
    "pro_gan": [2, 0, 2, 0],
    "sfhq": [3] * 5,  # looks like a set of real faces, is none
    "stylegan2": [2] * 8,
    "glide": [6] * 4,
}
FROM_ROOT = ("glide", "sfhq")  # their image_path begins with the folder's own name


def image(name: str, size: int = 900) -> bytes:
    """Return bytes that do not repeat, different for every name."""
    words = range(size // 8)
    return b"".join(image_key(f"{name} {i}").to_bytes(8, "big") for i in words)


def make_artifact(root: str = "", times: int = 1) -> dict[str, bytes]:
    """Return name -> content of all files; images of all methods have the same base names."""
    files = {}
    for method, targets in TARGETS.items():
        rows = []
        for number, target in enumerate(targets * times):
            path = f"part{number % 2}/img{number:06d}.jpg"
            files[f"{root}{method}/{path}"] = image(f"{method}/{path}")
            listed = f"{method}/{path}" if method in FROM_ROOT else path
            rows.append((f"img{number:06d}.jpg", listed, str(target), "face, or not"))
        # Columns stand in another order here and there.
        order = (2, 3, 1, 0) if method == "pro_gan" else (0, 1, 2, 3)
        names = ("filename", "image_path", "target", "category")
        lines = [names, *((a, b, c, f'"{d}"') for a, b, c, d in rows)]
        text = "\n".join(",".join(line[i] for i in order) for line in lines) + "\n"
        files[f"{root}{method}/metadata.csv"] = text.encode()
    return files


def in_mirror(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return `files` in the layout of the mirror on the HF hub, whose folders tell untruths."""
    parts = dict.fromkeys(TARGETS, "Fake") | {"coco": "Real", "cycle_gan": "Real"}
    return {
        f"ArtiFact/{parts[name.partition('/')[0]]}/{name}": data for name, data in files.items()
    }


def expected_labels() -> dict[str, int]:
    """Return image_id -> label."""
    return {
        f"{method}/part{number % 2}/img{number:06d}.jpg": int(target != 0)
        for method, targets in TARGETS.items()
        for number, target in enumerate(targets)
    }


def zip_of(files: Mapping[str, bytes], *, comment: bytes = b"", prefix: bytes = b"") -> bytes:
    """Return a zip archive: tables deflated, images stored, as usual."""
    buffer = io.BytesIO()
    buffer.write(prefix)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = comment
        for name, content in files.items():
            deflated = name.endswith(".csv")
            kind = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
            archive.writestr(zipfile.ZipInfo(name), content, kind)
    return buffer.getvalue()


def tar_of(
    files: Mapping[str, bytes],
    form: int = tarfile.USTAR_FORMAT,
    mode: Literal["w", "w:gz"] = "w",
) -> bytes:
    """Return a tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=form) as archive:
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return buffer.getvalue()
