"""`make s3`: the same server each time, for this user's eyes, gone when told so."""

import json
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest

from src.core.cli import InputError
from tests.conftest import ROOT
from tools.remote import s3_server as s3
from tools.serve import load_server, serve


def test_credentials_and_address_are_drawn_once_and_private(tmp_path: Path) -> None:
    server, owner = load_server(tmp_path / "s3")
    again, same = load_server(tmp_path / "s3")
    assert (again.endpoint, same) == (server.endpoint, owner)
    assert stat.S_IMODE((tmp_path / "s3" / "server.json").stat().st_mode) == 0o600
    assert len(owner.secret_key) >= 40


def test_two_folders_have_different_credentials(tmp_path: Path) -> None:
    assert load_server(tmp_path / "a")[1] != load_server(tmp_path / "b")[1]


@pytest.mark.parametrize("text", ["", "{}", '{"access_key": "x"}'])
def test_broken_settings_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "server.json").write_text(text)
    with pytest.raises(InputError, match=r"server\.json.*delete it"):
        load_server(tmp_path)


def test_a_second_server_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    server, _ = load_server(tmp_path)
    for port in server.ports:
        with (
            socket.create_server(("127.0.0.1", port)),
            pytest.raises(InputError, match=rf"port {port} .* is taken .*delete .*server\.json"),
        ):
            serve(tmp_path, threading.Event())


def test_ports_whose_twin_is_taken_are_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def taken_at_first(port: int, held: ExitStack) -> int:
        calls.append(port)
        if len(calls) == 2:
            raise OSError("Address already in use")
        return bind(port, held)

    bind = s3._bind
    monkeypatch.setattr(s3, "_bind", taken_at_first)
    ports = list(s3.free_ports().values())
    assert len(set(ports) | {port + s3.GRPC_OFFSET for port in ports}) == 8
    assert len(calls) >= 10


@pytest.mark.s3
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_says_how_to_use_it_and_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals
) -> None:
    process, lines = start(tmp_path / "s3")
    settings = json.loads((tmp_path / "s3" / "server.json").read_text())
    endpoint = f"http://127.0.0.1:{settings['ports']['s3']}"
    assert f"  export AWS_ACCESS_KEY_ID={settings['access_key']}\n" in lines
    assert f"  export AWS_SECRET_ACCESS_KEY={settings['secret_key']}\n" in lines
    assert f"  make remote URL=s3://real-or-generated/dvc ENDPOINT={endpoint}\n" in lines
    assert f"  export AWS_ENDPOINT_URL={endpoint}\n" in lines
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{endpoint}/real-or-generated", timeout=10)
    process.send_signal(number)
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "the data stay" in rest
    assert all(is_free(port) for port in settings["ports"].values())


@pytest.mark.s3
@pytest.mark.skipif(sys.platform != "linux", reason="no other system ends it")
def test_one_that_is_killed_leaves_nothing_behind_either(tmp_path: Path) -> None:
    process, _ = start(tmp_path / "s3")
    process.kill()
    process.communicate(timeout=30)
    assert all(is_free(port) for port in load_server(tmp_path / "s3")[0].ports)


def start(folder: Path) -> tuple[subprocess.Popen[str], list[str]]:
    """Return `make s3` on `folder`, and what it has said by when the server answers."""
    ours = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup, the server would ignore it
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.serve", str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGHUP, ours)
    assert process.stdout is not None
    lines: list[str] = []
    while not (lines and lines[-1].startswith("Ctrl-C")):
        lines.append(process.stdout.readline())
        assert lines[-1], "it ended"
    return process, lines


def is_free(port: int) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return True
        time.sleep(0.1)
    return False
