import asyncio
import io
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import urllib3
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bench.server_load import memory, under_load
from judge import Judge
from judge.server import __main__ as program
from judge.server.workers import FailedError, Limits, Workers
from src.core.cli import InputError
from tests.judge.conftest import TRAINED_ON
from tests.judge.server.conftest import serving

pytestmark = pytest.mark.slow
HTTP = urllib3.PoolManager()


def post(address: str, files: Sequence[tuple[str, bytes]], path: str = "/api/judge") -> Any:
    """Return the answer to files of a form, (name, content)."""
    name = "images" if path == "/api/judge" else "image"
    fields = [(name, file) for file in files]
    return HTTP.request("POST", address + path, fields=fields, retries=False, timeout=60)


def png(pixels: Any, **options: Any) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(encoded, "PNG", **options)
    return encoded.getvalue()


def test_pictures_are_judged_as_on_the_command_line(
    server: str, trained: Path, images: Path
) -> None:
    judge = Judge.load(trained / "exported")
    paths = sorted(images.rglob("*.jpg"))
    files = [(path.name, path.read_bytes()) for path in paths]
    files.insert(1, ("<b>.jpg", b"no picture"))
    answer = post(server, files)
    assert answer.status == 200
    found = json.loads(answer.data)["images"]
    assert [entry["name"] for entry in found] == [name for name, _ in files]
    assert "unknown format" in found.pop(1)["error"]
    for path, entry in zip(paths, found, strict=True):
        verdict = judge(path)
        assert entry["error"] is None
        assert entry["verdict"] == verdict.verdict
        assert entry["probability"] == pytest.approx(verdict.probability, abs=1e-5)
        assert entry["conditions"][0]["correct"] == 0.5
        near = entry["neighbours"][0]
        assert near["label"] in ("real", "fake")
        picture = HTTP.request("GET", server + near["image"])
        assert judge(picture.data).distance < 1


def test_what_a_file_says_is_passed_on(server: str) -> None:
    texts = PngInfo()
    texts.add_text("parameters", "a cat, steps: 20" + "x" * 1000)
    texts.add_text("Comment", "trainedAlgorithmicMedia")
    exif = Image.Exif()
    exif[0x0110] = "Camera \0"
    content = png(np.zeros((40, 40, 3)), pnginfo=texts, exif=exif)
    (found,) = json.loads(post(server, [("x.png", content)]).data)["images"]
    assert found["said"]["text: parameters"].startswith("a cat, steps: 20")
    assert len(found["said"]["text: parameters"]) == 300
    assert found["said"]["EXIF: camera"] == "Camera"
    assert found["marks"] == {"C2PA manifest": False, "IPTC: made by a trained algorithm": True}


def test_bad_requests_have_their_status(server: str) -> None:
    picture = png(np.zeros((40, 40, 3)))
    host = server.removeprefix("http://")
    form = {"Content-Type": "multipart/form-data; boundary=x"}

    def status(method: str, path: str, **options: Any) -> int:
        answer = HTTP.request(method, server + path, retries=False, timeout=10, **options)
        if answer.status >= 400:
            assert json.loads(answer.data)["error"]
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert answer.headers["Cache-Control"] == "no-store"
        return int(answer.status)

    assert status("GET", "/absent") == 404
    assert status("GET", "/..%2f..%2fetc/passwd") == 404
    assert status("GET", "/api/training/99999") == 404
    assert status("GET", "/api/training/-1") == 404
    assert status("GET", "/api/training/x") == 400
    assert status("GET", "/api/judge") == 405
    assert status("POST", "/api/judge") == 400
    assert status("POST", "/api/judge", fields={"images": "no file"}) == 400
    assert status("POST", "/api/judge", body=b"--x\r\nbroken", headers=form) == 400
    assert status("GET", "/", headers={"Host": "attacker.example"}) == 421
    assert status("GET", "/", headers={"Origin": "http://attacker.example"}) == 403
    assert status("GET", "/", headers={"Origin": server, "Host": host}) == 200
    many = [("images", (f"{n}.png", picture)) for n in range(101)]
    assert status("POST", "/api/judge", fields=many) == 413
    assert status("POST", "/api/judge", body=b"", headers={"Content-Length": "99999999999"}) == 413
    assert status("POST", "/api/heatmap", fields={"image": ("x", b"no picture")}) == 422
    assert status("GET", "/card") == 200
    card = HTTP.request("GET", server + "/card").data
    assert b"<td>&lt;b&gt;1&lt;/b&gt;</td>" in card
    known = json.loads(HTTP.request("GET", server + "/api/card").data)
    assert next(iter(known.items())) == ("trained_on", TRAINED_ON)
    page = HTTP.request("GET", server + "/").data.decode()
    assert page.split("<body>")[1].split()[:3] == ["<header>", "<p", 'id="trained">A']


def test_a_heatmap_is_a_picture(server: str, images: Path) -> None:
    path = min(images.rglob("*.jpg"))
    answer = post(server, [(path.name, path.read_bytes())], "/api/heatmap")
    assert answer.headers["Content-Type"] == "image/png"
    with Image.open(io.BytesIO(answer.data)) as picture, Image.open(path) as original:
        assert picture.size == original.size


def mutated(content: bytes, generator: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(generator.randint(1, 20)):
        data[generator.randrange(len(data))] = generator.randrange(256)
    cut = generator.choice((len(data), generator.randrange(len(data))))
    return bytes(data[:cut])


def test_mutated_pictures_are_judged_or_named(server: str, images: Path) -> None:
    generator = random.Random(0)
    seeds = [min(images.rglob("*.jpg")).read_bytes()]
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 40, 3), np.uint8))
    for form in ("PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"):
        encoded = io.BytesIO()
        picture.save(encoded, form)
        seeds.append(encoded.getvalue())
    for _ in range(25):
        files = [("x", mutated(generator.choice(seeds), generator)) for _ in range(40)]
        answer = post(server, files)
        assert answer.status == 200
        for entry in json.loads(answer.data)["images"]:
            assert (entry["error"] is None) != (entry["verdict"] is None)
    assert json.loads(HTTP.request("GET", f"{server}/api/health").data)["waiting"] == 0


def test_mutated_requests_are_answered_or_cut_off(server: str) -> None:
    generator = random.Random(0)
    address = urllib3.util.parse_url(server)
    body, kind = urllib3.encode_multipart_formdata({"images": ("x.png", png(np.zeros((9, 9, 3))))})
    head = f"POST /api/judge HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: {kind}\r\n"
    whole = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    with ThreadPoolExecutor(32) as pool:  # most are cut short, and the server waits for the rest
        sent = [mutated(whole, generator) for _ in range(1000)]
        statuses = Counter(pool.map(lambda request: answer_to(request, address, 1), sent))
    assert set(statuses) <= {0, 200, 400, 403, 404, 405, 413, 421}
    assert answer_to(whole, address, 60) == 200


def answer_to(request: bytes, address: urllib3.util.Url, seconds: float) -> int:
    """Return the status, 0 where none comes within `seconds`."""
    with socket.create_connection((address.host, address.port), timeout=60) as connection:
        connection.sendall(request)
        connection.settimeout(seconds)
        try:
            first = connection.recv(100)
        except (ConnectionResetError, TimeoutError):
            return 0
    return int(first.split()[1]) if first else 0


def test_fifty_at_once_are_answered_and_memory_stays_flat(trained: Path) -> None:
    pictures = [
        png(np.random.default_rng(number).integers(0, 256, (200, 200, 3))) for number in range(49)
    ]
    pictures.append(b"no picture")
    with serving(trained / "exported") as address:
        (process,) = (
            one for one in psutil.Process().children() if str(trained / "exported") in one.cmdline()
        )
        held = []
        for seconds in (3, 6):  # the first: what libraries load on first use is no leak
            answers = under_load(address, pictures, 50, seconds=seconds)
            assert set(answers.statuses) == {200}
            held.append(memory(process))
        assert held[1] < 1.05 * held[0] + 10 * 2**20
        assert post(address, [("x", pictures[0])]).status == 200


def test_a_full_queue_says_when_to_come_again(trained: Path) -> None:
    picture = png(np.random.default_rng(0).integers(0, 256, (600, 600, 3)))
    statuses: list[int] = []
    with serving(trained / "exported", "--queue", "4", "--workers", "1") as address:
        assert post(address, [("x", picture)] * 5).status == 503

        def ask() -> None:
            answer = urllib3.PoolManager().request(
                "POST",
                f"{address}/api/judge",
                fields=[("images", ("x", picture))] * 2,
                retries=False,
            )
            statuses.append(answer.status)
            assert answer.status == 200 or answer.headers["Retry-After"] == "2"

        threads = [threading.Thread(target=ask) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(statuses) == {200, 503}
        assert post(address, [("x", picture)]).status == 200


def test_a_picture_that_takes_too_long_does_not_stop_the_others(trained: Path) -> None:
    limits = Limits(seconds=5, megapixels=1, megabytes=1, queue=10, files=10)
    workers = Workers(trained / "exported", "onnx", 2, limits)
    picture = png(np.zeros((40, 40, 3)))

    async def together() -> list[Any]:
        workers.reserve(3)
        slow = workers.run(_sleep, b"")
        others = [workers.judge(picture), workers.judge(png(np.zeros((1200, 1200, 3))))]
        return list(await asyncio.gather(slow, *others, return_exceptions=True))

    try:
        slow, quick, large = asyncio.run(together())
    finally:
        workers.stop()
    assert isinstance(slow, FailedError)
    assert str(slow) == "it took more than 5 s"
    assert quick["verdict"] in ("real", "fake")
    assert str(large).startswith("1200 x 1200 pixels, more than 1,000,000: shrink it")
    assert workers.waiting == 0


def _sleep(_data: bytes) -> None:
    time.sleep(60)


def test_a_taken_port_is_named(server: str) -> None:
    port = server.rsplit(":", 1)[1]
    with pytest.raises(InputError, match=rf"--port {port}: Address already in use; choose another"):
        program.main(["--port", port])
