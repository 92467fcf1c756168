import bz2
import contextlib
import gzip
import io
import lzma
import os
import random
import ssl
import stat
import struct
import subprocess
import tarfile
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, cast
from xml.sax.saxutils import escape

import huggingface_hub.constants
import numpy as np
import obstore
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.core.cli import InputError
from src.sources import folder
from src.sources.local.cache import CACHE_VARIABLE, Cache
from src.sources.local.paths import LeftOut
from src.sources.local.prefetch import in_order
from src.sources.origins import (
    Missing,
    Origin,
    addresses,
    http,
    in_flight,
    open_origin,
    stores,
    tars,
    whole_file,
    with_archives,
    zip_directory,
    zips,
)
from src.sources.origins.in_flight import MAX_RUN, MAX_WASTE, runs
from tests.helpers.make_artifact import image, make_artifact, tar_of, zip_of
from tests.helpers.servers import Answer, Hub, Kaggle, Request, Server, part_of, serving
from tools.remote.s3_server import Identity, S3Server

FILES = make_artifact()
ZIP = zip_of(FILES)
TAR = tar_of(FILES)


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    backoff = {"init_backoff": timedelta(milliseconds=1), "max_backoff": timedelta(milliseconds=5)}
    quick = {"max_retries": 4, "backoff": {**backoff, "base": 2}}
    for module in (stores, addresses):
        monkeypatch.setattr(module, "RETRY", quick)
    monkeypatch.setattr(http, "RETRIES", http.RETRIES.new(backoff_factor=0))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def read_all(origin: Origin, names: list[str] | None = None) -> dict[str, bytes | str]:
    """Return name -> content, or why there is none."""
    if names is None:
        names = [name for name in FILES if name in origin.names().to_pylist()]
    rows = origin.find(pa.array(names, pa.string()))
    together = [pair for pairs in origin.read(rows) for pair in pairs]
    found = {row: str(c) if isinstance(c, Missing) else c for row, c in together}
    return {name: found[row] for name, row in zip(names, rows.tolist(), strict=True)}


def open_whole(url: str, cache: Cache) -> Origin:
    """Return what the stage opens, which downloads archives where it must."""
    return with_archives(lambda: open_origin(url, cache))


def content_of(origin: Origin, row: int = 0) -> bytes:
    (content,) = origin.contents(np.array([row]))
    return content


def connect(url: str) -> obstore.store.ObjectStore:
    place = addresses.find_place(addresses.parse_address(url))
    assert isinstance(place.store, stores.Store)
    return place.store._connect()


def unpack(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


# --- the same members, wherever they are


@pytest.mark.parametrize(
    "layout",
    [
        FILES,
        {"x.zip": ZIP},
        {"x.tar": TAR},
        {"coco.zip": zip_of({k[5:]: v for k, v in FILES.items() if k.startswith("coco/")})}
        | {k: v for k, v in FILES.items() if not k.startswith("coco/")},
    ],
    ids=["loose", "zip", "tar", "mixed"],
)
def test_a_folder_holds_what_its_archives_hold(
    tmp_path: Path, cache: Cache, layout: dict[str, bytes]
) -> None:
    layout = {k.replace("coco.zip", "coco/c.zip"): v for k, v in layout.items()}
    origin = open_origin(str(unpack(tmp_path / "data", layout)), cache)
    assert read_all(origin) == FILES
    assert origin.is_local()
    assert origin.url == "data"


def test_a_local_file_that_changed_is_not_taken_for_what_was_listed(
    tmp_path: Path, cache: Cache
) -> None:
    origin = open_origin(str(unpack(tmp_path, {"a.jpg": b"1234", "b.jpg": b"1234"})), cache)
    (tmp_path / "a.jpg").write_bytes(b"12345")
    (tmp_path / "b.jpg").unlink()
    with pytest.raises(InputError, match=r"a\.jpg: 5 bytes instead of the 4"):
        content_of(origin, 0)
    with pytest.raises(InputError, match=r"b\.jpg: not there any more"):
        content_of(origin, 1)


@pytest.mark.parametrize(("name", "content"), [("x.zip", ZIP), ("x.tar", TAR)])
def test_a_local_archive(tmp_path: Path, cache: Cache, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    origin = open_origin(str(tmp_path / name), cache)
    assert read_all(origin) == FILES
    rows = origin.find(pa.array(["coco/part0/img000000.jpg", "coco/none.jpg"]))
    assert content_of(origin, int(rows[0])) == FILES["coco/part0/img000000.jpg"]
    assert rows[1] == -1


@pytest.mark.parametrize("etag", ["v1", ""])
@pytest.mark.parametrize("suffix", ["", "#whole"])
def test_a_zip_on_a_web_server(cache: Cache, etag: str, suffix: str) -> None:
    with serving({"a b/x (1).zip": ZIP}, etag=etag) as server:
        origin = open_whole(f"{server.url}/a%20b/x%20(1).zip{suffix}", cache)
        assert read_all(origin) == FILES
        assert origin.url == f"{server.url}/a%20b/x%20(1).zip"
        assert origin.is_local() == (suffix == "#whole")
        assert origin.version == etag


def test_a_tar_on_a_web_server_is_downloaded_once(cache: Cache) -> None:
    with serving({"y.tar": TAR}) as server:
        with pytest.raises(InputError, match=r"y\.tar \(0\.1 MB\): a tar has no directory and is"):
            open_origin(f"{server.url}/y.tar", cache)
        assert read_all(open_whole(f"{server.url}/y.tar", cache)) == FILES
        sent = server.bytes_sent
        assert read_all(open_origin(f"{server.url}/y.tar", cache)) == FILES
        assert server.bytes_sent < sent + 10  # the copy in the cache


OWNER = Identity("owner", "owner-key", "owner-secret")
ANYBODY = Identity("anonymous", "", "", actions=("Read:images", "List:images"))


@pytest.fixture(scope="module")
def images_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server whose bucket `images`, which anybody may read, has the files in every layout."""
    stored = {
        **{f"loose/{name}": content for name, content in FILES.items()},
        **{"z/x.zip": ZIP, "t/x.tar": TAR},
        **{f"tree/{name}": name.encode() for name in ("Real/1.jpg", "fake/1.jpg")},
    }
    folder = tmp_path_factory.mktemp("s3")
    with (
        S3Server(folder, "images", [OWNER, ANYBODY]) as server,
        pytest.MonkeyPatch.context() as env,
    ):
        for name, value in server.environment(OWNER).items():
            env.setenv(name, value)
        env.setenv("AWS_ENDPOINT_URL", server.endpoint)
        store = connect("s3://images")
        for name, content in stored.items():
            obstore.put(store, name, content)
        yield server


@pytest.fixture
def as_nobody(
    images_server: S3Server, tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> pytest.MonkeyPatch:
    """Name the server, and no credentials; return what the environment is set with."""
    monkeypatch.setenv(CACHE_VARIABLE, str(cache.root))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", images_server.endpoint)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return monkeypatch


@pytest.fixture
def as_owner(images_server: S3Server, as_nobody: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Have the owner's keys in the environment."""
    for name, value in images_server.environment(OWNER).items():
        as_nobody.setenv(name, value)
    return as_nobody


@pytest.mark.s3
@pytest.mark.usefixtures("as_owner")
def test_s3_in_every_layout(cache: Cache) -> None:
    with pytest.raises(InputError, match=r"t/x\.tar \(.*\) and 1 more \(0\.1 MB together"):
        open_origin("s3://images#whole", cache)
    for place in ("loose", "loose/", "z/x.zip", "z", "t", "t/x.tar"):
        assert read_all(open_whole(f"s3://images/{place}", cache)) == FILES
    tree = folder.build("s3://images/tree")
    found = [data for _, data in tree.fetch(tree.catalogue())]
    assert found == [b"Real/1.jpg", b"fake/1.jpg"]


@pytest.mark.s3
@pytest.mark.usefixtures("as_owner")
@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://images/nothing", "no files there"),
        ("s3://imagse/loose", r"^s3://imagse/loose: no such bucket; check its name$"),
        ("s3://imagse/x.zip", r"not there; check the names of bucket and file$"),
        ("s3://images/y.zip", r"not there; check the names of bucket and file$"),
    ],
)
def test_what_is_not_on_s3_is_named(cache: Cache, address: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_origin(address, cache)


@pytest.mark.s3
def test_s3_is_read_with_keys_with_a_profile_or_as_nobody(
    as_owner: pytest.MonkeyPatch, tmp_path: Path, cache: Cache
) -> None:
    as_owner.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(InputError, match=r"access refused.*AWS_PROFILE"):
        open_origin("s3://images/loose", cache)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        as_owner.delenv(name)
    assert read_all(open_origin("s3://images/z/x.zip", cache)) == FILES
    (tmp_path / "credentials").write_text(
        "[lab]\naws_access_key_id = owner-key\naws_secret_access_key = owner-secret\n"
    )
    as_owner.setenv("AWS_PROFILE", "lab")
    assert read_all(open_origin("s3://images/z/x.zip", cache)) == FILES


LISTING = """<?xml version="1.0"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><KeyCount>1</KeyCount>
<IsTruncated>false</IsTruncated>{}</ListBucketResult>"""
ENTRY = """<Contents><Key>{}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>
<ETag>"e"</ETag><Size>{}</Size></Contents>"""


@contextlib.contextmanager
def listing(
    monkeypatch: pytest.MonkeyPatch, keys: Mapping[str, int], tls: ssl.SSLContext | None = None
) -> Iterator[Server]:
    """Serve a bucket that lists these keys and sizes, and whose objects are in Glacier."""
    entries = "".join(ENTRY.format(escape(key), size) for key, size in keys.items())
    frozen = b"<Error><Code>InvalidObjectState</Code><Message>archived</Message></Error>"

    def handle(request: Request) -> Answer:
        if "list-type" in request.query:
            return Answer(200, LISTING.format(entries).encode())
        return Answer(403, frozen)

    for name, value in {
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    with Server(handle, tls) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        yield server


@pytest.mark.parametrize("bucket", ["b", "My_Bucket"])
def test_markers_of_folders_in_s3_are_no_members(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, bucket: str
) -> None:
    keys = {"p/": 0, "p/real/": 0, "p/real/1.jpg": 4, "p/fake_$folder$": 0, "p/fake/1.jpg": 4}
    with listing(monkeypatch, keys):
        origin = open_origin(f"s3://{bucket}/p", cache)
        assert origin.names().to_pylist() == ["fake/1.jpg", "real/1.jpg"]


def own_certificate(path: Path, *, may_sign: bool) -> ssl.SSLContext:
    """Write a certificate for 127.0.0.1 that no system trusts; return how a server shows it."""
    key, may = path.with_suffix(".key"), str(may_sign).upper()
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=own -addext"
    names = ["subjectAltName=IP:127.0.0.1", "-addext", f"basicConstraints=CA:{may}"]
    files = ["-out", str(path), "-keyout", str(key)]
    subprocess.run([*command.split(), *names, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)
    return context


@pytest.mark.parametrize("where", ["variable", "profile"])
def test_a_certificate_of_ones_own_is_trusted_where_aws_is_told_so(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    certificate, config = tmp_path / "own.pem", tmp_path / "config"
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    context = own_certificate(certificate, may_sign=False)
    with listing(monkeypatch, {"p/1.jpg": 4}, context):
        with pytest.raises(InputError, match=r"certificate is not trusted.*AWS_CA_BUNDLE"):
            open_origin("s3://b/p", cache)
        if where == "variable":
            monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        else:
            config.write_text(f"[default]\nca_bundle = {certificate}\n")
        assert open_origin("s3://b/p", cache).names().to_pylist() == ["1.jpg"]


def test_the_certificate_of_an_authority_is_none_of_a_server(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = own_certificate(tmp_path / "own.pem", may_sign=True)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "own.pem"))
    with (
        listing(monkeypatch, {"p/1.jpg": 4}, context),
        pytest.raises(InputError, match=r"authority .*CA:FALSE"),
    ):
        open_origin("s3://b/p", cache)


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_file_without_certificates_is_named(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    bundle = tmp_path / "own.pem"
    if content is not None:
        bundle.write_bytes(content)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    with (
        listing(monkeypatch, {"p/1.jpg": 4}),
        pytest.raises(InputError, match=r"own\.pem.*\(PEM\)"),
    ):
        open_origin("s3://b/p", cache)


@pytest.mark.parametrize("key", ["p/a//1.jpg", "p/a/./1.jpg", "p/../1.jpg", "p/a\t1.jpg"])
def test_keys_that_are_no_names_are_named(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    with (
        listing(monkeypatch, {key: 4, "p/2.jpg": 4}),
        pytest.raises(InputError, match=r"s3://b/p: .*1\.jpg.*rename"),
    ):
        open_origin("s3://b/p", cache)


def test_an_object_in_glacier_must_be_restored(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listing(monkeypatch, {"p/1.jpg": 4}):
        origin = open_origin("s3://b/p", cache)
        with pytest.raises(InputError, match=r"s3://b/p/1\.jpg: archived .*restore-object"):
            content_of(origin)
        with pytest.raises(InputError, match=r"s3://b/x\.zip: archived .*restore-object"):
            open_origin("s3://b/x.zip", cache)


@pytest.mark.parametrize("url", ["s3://bucket/loose", "s3://bucket/x.zip"])
def test_s3_that_is_nobody_knows_whose(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    for variable in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "none")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "none")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")  # nobody listens there
    with pytest.raises(InputError, match=r"no complete answer .*; AWS_ENDPOINT_URL is not set, so"):
        open_origin(url, cache)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(InputError, match=r"127\.0\.0\.1:1/.*run again to resume$"):
        open_origin(url, cache)


# --- the hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[Hub, Server]]:
    stand_in = Hub(ZIP)
    with Server(stand_in) as server:
        template = huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(
            huggingface_hub.constants.ENDPOINT, server.url
        )
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(variable, raising=False)
        yield stand_in, server


def test_the_hub_pins_the_commit_and_keeps_the_token_to_itself(
    hub: tuple[Hub, Server], cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in, server = hub
    stand_in.token = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    origin = open_origin("hf://datasets/owner/name/a/b.zip", cache)
    assert origin.url == "hf://datasets/owner/name@c0ffee/a/b.zip"
    assert origin.version == "c0ffee"
    assert read_all(origin) == FILES
    ranged = [r for r in server.requests if r.path == "/cdn/file"]
    assert ranged
    assert not any("authorization" in r.headers for r in ranged)


def test_an_expired_link_of_the_hub_is_renewed(hub: tuple[Hub, Server], cache: Cache) -> None:
    hub[0].requests_per_link = 4
    origin = open_origin("hf://datasets/owner/name@main/a/b.zip", cache)
    for name in FILES:
        row = int(origin.find(pa.array([name]))[0])
        assert content_of(origin, row) == FILES[name]
    assert hub[0].links > 5


def test_the_hub_without_a_token_says_what_to_do(hub: tuple[Hub, Server], cache: Cache) -> None:
    hub[0].token = "hf_secret"
    with pytest.raises(InputError, match="hf auth login"):
        open_origin("hf://datasets/owner/name/a/b.zip", cache)
    with pytest.raises(InputError, match="expected hf://datasets/OWNER/NAME"):
        open_origin("hf://owner/b.zip", cache)


def test_the_hub_without_a_network(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = "http://127.0.0.1:1/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", dead)
    with pytest.raises(InputError, match=r"no answer \(NewConnectionError\); check the network"):
        open_origin("hf://datasets/owner/name/a/b.zip", cache)


# --- Kaggle


@pytest.fixture
def on_kaggle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[Kaggle, Server]]:
    for variable in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "kaggle"))
    stand_in = Kaggle(ZIP)
    with Server(stand_in) as server:
        monkeypatch.setenv("KAGGLE_API_ENDPOINT", server.url)
        yield stand_in, server


def test_kaggle_by_ranges_out_of_the_archive(
    on_kaggle: tuple[Kaggle, Server], cache: Cache
) -> None:
    origin = open_origin("kaggle://owner/name", cache)
    assert origin.url == "kaggle://owner/name/versions/3"
    assert read_all(origin) == FILES
    asked = [r for r in on_kaggle[1].requests if r.path.startswith("/api")]
    assert len(asked) == 2  # version and link: ranges go past Kaggle's own, slower server


def test_kaggle_that_sends_no_parts_is_downloaded_whole(
    on_kaggle: tuple[Kaggle, Server], cache: Cache
) -> None:
    on_kaggle[0].ranges = False
    with pytest.raises(InputError, match=r"not send parts .*append #whole"):
        open_origin("kaggle://owner/name/versions/3", cache)
    assert read_all(open_whole("kaggle://owner/name/versions/3#whole", cache)) == FILES


def test_kaggle_credentials(
    on_kaggle: tuple[Kaggle, Server], cache: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    on_kaggle[0].authorization = "Basic bWU6c2VjcmV0"  # me:secret
    with pytest.raises(InputError, match=r"is needed, and none was found; create .*kaggle\.json"):
        open_origin("kaggle://owner/name", cache)
    (tmp_path / "kaggle").mkdir()
    file = tmp_path / "kaggle" / "kaggle.json"
    file.write_text("{}")
    with pytest.raises(InputError, match="not a Kaggle token"):
        open_origin("kaggle://owner/name", cache)
    file.write_text('{"username": "me", "key": "wrong"}')
    with pytest.raises(InputError, match="token was refused"):
        open_origin("kaggle://owner/name", cache)
    file.write_text('{"username": "me", "key": "secret"}')
    assert read_all(open_origin("kaggle://owner/name", cache)) == FILES
    on_kaggle[0].authorization = "Bearer token"
    monkeypatch.setenv("KAGGLE_API_TOKEN", "token")
    assert read_all(open_origin("kaggle://owner/name", cache)) == FILES
    with pytest.raises(InputError, match="no such data set"):
        open_origin("kaggle://owner/name/versions/7", cache)
    with pytest.raises(InputError, match="expected kaggle://"):
        open_origin("kaggle://owner", cache)


@pytest.mark.parametrize(
    ("folder", "variable"),
    [
        (".kaggle", ""),
        (".config/kaggle", ""),
        ("x/kaggle", "XDG_CONFIG_HOME"),
        ("x", "KAGGLE_CONFIG_DIR"),
    ],
)
def test_kaggle_tokens_lie_where_its_own_tool_keeps_them(
    on_kaggle: tuple[Kaggle, Server],
    cache: Cache,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    folder: str,
    variable: str,
) -> None:
    on_kaggle[0].authorization = "Basic bWU6c2VjcmV0"  # me:secret
    for name in ("KAGGLE_CONFIG_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "x"))
    unpack(tmp_path / folder, {"kaggle.json": b'{"username": "me", "key": "secret"}'})
    assert read_all(open_origin("kaggle://owner/name", cache)) == FILES


def test_kaggle_without_a_network(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(http, "RETRIES", http.RETRIES.new(backoff_factor=0.5))
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setenv("KAGGLE_API_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(InputError, match=r"\(NewConnectionError\); check the network"):
        open_origin("kaggle://owner/name", cache)
    assert sum(waits) == 15


def test_kaggle_is_asked_again_when_it_is_busy(
    on_kaggle: tuple[Kaggle, Server], cache: Cache
) -> None:
    stand_in, server = on_kaggle

    def busy(request: Request) -> Answer:
        if len(server.requests) % 3:
            return Answer(429 if len(server.requests) % 2 else 503)
        return stand_in(request)

    server.handle = busy
    assert read_all(open_origin("kaggle://owner/name", cache)) == FILES


# --- few bytes, few requests


def test_a_subset_reads_little_more_than_its_bytes(cache: Cache) -> None:
    files = {f"m/{n:05d}.jpg": image(str(n), 2000 + 8 * (n % 400)) for n in range(1000)}
    with serving({"x.zip": zip_of(files)}) as server:
        origin = open_origin(f"{server.url}/x.zip", cache)
        directory = server.bytes_sent
        names = random.Random(0).sample(sorted(files), 100)
        assert read_all(origin, names) == {name: files[name] for name in names}
        fetched = server.bytes_sent - directory
        assert fetched <= 1.3 * sum(len(files[name]) for name in names)
        assert fetched == origin.cost(origin.find(pa.array(names)))[0]
        before = len(server.requests)
        read_all(origin, sorted(files))
        assert len(server.requests) - before <= 3  # all of it: one request for 8 MiB


def test_a_directory_is_not_fetched_twice(cache: Cache) -> None:
    with serving({"x.zip": ZIP}) as server:
        first = open_origin(f"{server.url}/x.zip", cache)
        sent = server.bytes_sent
        assert read_all(open_origin(f"{server.url}/x.zip", cache)) == read_all(first)
        assert server.bytes_sent - sent < 3 * len(ZIP)
        sent = server.bytes_sent
        open_origin(f"{server.url}/x.zip", cache)
        assert server.bytes_sent - sent <= 2


RANGES = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 10**7), st.integers(1, 10**5)))


@given(RANGES.filter(bool))
def test_runs_hold_every_range_once_and_waste_little(ranges: list[tuple[int, int, int]]) -> None:
    file, begin, length = (np.array(c, dtype=np.int64) for c in zip(*ranges, strict=True))
    end = begin + length
    found = runs(file, begin, end)
    assert sorted(np.concatenate(found).tolist()) == list(range(len(ranges)))
    spans = [(file[run], begin[run].min(), end[run].max()) for run in found]
    assert all(len(set(files)) == 1 for files, _, _ in spans)
    assert sum(b - a for _, a, b in spans) <= (1 + MAX_WASTE) * length.sum()
    assert all(b - a <= MAX_RUN for _, a, b in spans)


def test_results_come_in_order_and_errors_come_out() -> None:
    assert list(in_order(lambda x: x * x, range(100), 4)) == [x * x for x in range(100)]
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda x: 1 / x, [2, 1, 0, 1], 2))


def test_what_is_in_flight_fits_into_memory() -> None:
    assert in_flight.most_in_flight(12_000) == in_flight.IN_FLIGHT
    assert in_flight.most_in_flight(MAX_RUN) == 32
    assert in_flight.most_in_flight(0) == in_flight.IN_FLIGHT


def test_as_many_wait_for_a_far_server_as_are_in_flight() -> None:
    busy, peak, lock = 0, 0, threading.Lock()

    def work(number: int) -> int:
        nonlocal busy, peak
        with lock:
            busy += 1
            peak = max(peak, busy)
        time.sleep(0.03)
        with lock:
            busy -= 1
        return number

    assert list(in_order(work, range(200), 64)) == list(range(200))
    assert 32 < peak <= 64


# --- tar archives


NAMES = st.text("abä /.", min_size=1, max_size=120).map(lambda name: name.strip("/. ") or "x")


@settings(max_examples=60)
@given(
    st.dictionaries(NAMES, st.binary(max_size=1200), max_size=5),
    st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.none() | st.tuples(st.integers(0, 4000), st.integers(1, 255)),
)
def test_any_tar_reads_as_the_standard_library_does(
    tmp_path_factory: pytest.TempPathFactory,
    files: dict[str, bytes],
    form: int,
    damage: tuple[int, int] | None,
) -> None:
    path = tmp_path_factory.mktemp("tar") / "x.tar"
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            with contextlib.suppress(ValueError):  # too long for ustar
                archive.addfile(header, io.BytesIO(content))
    if damage and damage[0] < path.stat().st_size:
        data = bytearray(path.read_bytes())
        data[damage[0]] ^= damage[1]
        path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tars, "_read_plain", lambda _: None)
        expected = listed(path)
    assert listed(path) == expected


def listed(path: Path) -> object:
    try:
        return tars.read_tar_members(path, "x.tar", 1, "x.tar", LeftOut()).to_pylist()
    except (InputError, UnicodeError) as error:
        return type(error)


# --- zip archives


@given(
    st.dictionaries(
        st.text("abä/ é", min_size=1).filter(lambda s: s.strip("/") == s and s != ".."),
        st.binary(max_size=300),
        min_size=1,
    ),
    st.binary(max_size=40).filter(lambda b: b"PK" not in b),
    st.binary(max_size=40),
)
def test_any_zip_reads_as_the_standard_library_does(
    files: dict[str, bytes], comment: bytes, prefix: bytes
) -> None:
    data = zip_of(files, comment=comment, prefix=prefix)
    members = zip_members(data)
    found = {}
    for m in members:
        record = data[m["offset"] : m["offset"] + m["length"]]
        found[m["name"]] = zips.content(record, m["name"], m["size"], m["stamp"])
    assert found == files


def zip_members(data: bytes) -> list[dict[str, Any]]:
    read = lambda a, b: data[a:b]  # noqa: E731
    found: list[dict[str, Any]] = zip_directory.read_zip_members(
        read, "x", len(data), "x", LeftOut()
    ).to_pylist()
    return found


def test_zip64(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Cache) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 500)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)
    data = zip_of(FILES)
    assert b"PK\6\6" in data
    (tmp_path / "x.zip").write_bytes(data)
    assert read_all(open_origin(str(tmp_path / "x.zip"), cache)) == FILES


def test_a_streamed_zip_says_sizes_behind_the_content(tmp_path: Path, cache: Cache) -> None:
    class Pipe:
        def __init__(self) -> None:
            self.data = bytearray()

        def flush(self) -> None:
            pass

        def write(self, data: bytes) -> int:
            self.data += data
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(cast(IO[bytes], pipe), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    (tmp_path / "x.zip").write_bytes(pipe.data)
    assert read_all(open_origin(str(tmp_path / "x.zip"), cache)) == FILES


def opened(tmp_path: Path, data: bytes, name: str = "x.zip") -> Origin:
    (tmp_path / name).write_bytes(data)
    return open_origin(str(tmp_path / name), Cache(tmp_path / "cache"))


@pytest.mark.parametrize(
    "name", ["../x.jpg", "a/../../x.jpg", "/etc/passwd", "C:/x.jpg", "a\\..\\x.jpg", "a/.."]
)
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="leads out of its folder"):
        opened(tmp_path, zip_of({"good.jpg": b"1", name: b"2"}))
    with pytest.raises(InputError, match="leads out of its folder"):
        opened(tmp_path, tar_of({"good.jpg": b"1", name: b"2"}), "x.tar")


def test_backslashes_are_named_for_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"/x\.zip: refused, .* has backslashes, .*Windows; unpack"
    ):
        opened(tmp_path, zip_of({"good.jpg": b"1", "coco\\part0\\1.jpg": b"2"}))


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"x.zip": ZIP} | FILES, "x.zip and a file of its own; move x.zip elsewhere, or .*/x.zip$"),
        ({"x.zip": ZIP, "y.tar": TAR}, "x.zip and y.tar; move x.zip elsewhere, or set .*/x.zip$"),
    ],
)
def test_an_archive_beside_its_content_is_named(
    tmp_path: Path, cache: Cache, layout: dict[str, bytes], message: str
) -> None:
    with pytest.raises(InputError, match=rf"two members are called 'coco/[^']+': {message}"):
        open_origin(str(unpack(tmp_path, layout)), cache)


def test_repeated_names_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("same.jpg", "1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("same.jpg", "2")
    with pytest.raises(InputError, match=r"two members are called 'same.jpg', both in x.zip"):
        opened(tmp_path, buffer.getvalue())


LINKS = {
    "d/link.jpg": "../real/1.jpg",
    "chain.jpg": "d/link.jpg",
    "out.jpg": "../../etc/passwd",
    "absolute.jpg": "/etc/passwd",
    "gone.jpg": "real/2.jpg",
    "loop.jpg": "loop.jpg",
}
SEEN = {"real/1.jpg": b"1234", "d/link.jpg": b"1234", "chain.jpg": b"1234"}


def zip_with_links() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("real/1.jpg", "1234")
        for name, target in LINKS.items():
            link = zipfile.ZipInfo(name)
            link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
            archive.writestr(link, target)
    return buffer.getvalue()


def tar_with_links(kind: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        header = tarfile.TarInfo("./real/1.jpg")
        header.size = 4
        archive.addfile(header, io.BytesIO(b"1234"))
        for name, target in LINKS.items():
            header = tarfile.TarInfo(name)
            is_hard = kind == tarfile.LNKTYPE
            inside = os.path.normpath(Path(name).parent / target)
            header.type, header.linkname = kind, inside if is_hard else target
            archive.addfile(header)
        pipe = tarfile.TarInfo("pipe.jpg")
        pipe.type = tarfile.FIFOTYPE
        archive.addfile(pipe)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.zip", zip_with_links()),
        ("x.tar", tar_with_links(tarfile.SYMTYPE)),
        ("x.tar", tar_with_links(tarfile.LNKTYPE)),
    ],
    ids=["zip", "symbolic", "hard"],
)
def test_links_inside_an_archive_have_their_targets_bytes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, data: bytes
) -> None:
    origin = opened(tmp_path, data, name)
    assert read_all(origin, sorted(origin.names().to_pylist())) == SEEN
    (warning,) = caplog.messages
    assert "4 links that lead out of the folder (first: 'out.jpg')" in warning
    assert ("1 devices or pipes" in warning) == (name == "x.tar")


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [
        ("tar.gz", gzip.compress),
        ("tgz", gzip.compress),
        ("TAR.BZ2", bz2.compress),
        ("tbz2", bz2.compress),
        ("tar.xz", lzma.compress),
        ("txz", lzma.compress),
    ],
)
def test_compressed_tars_are_read(
    tmp_path: Path, cache: Cache, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    packed = pack(TAR)
    origin = opened(tmp_path, packed, f"x.{suffix}")
    assert read_all(origin) == FILES
    assert origin.is_local()
    with serving({f"x.{suffix}": packed}) as server:
        assert read_all(open_whole(f"{server.url}/x.{suffix}", cache)) == FILES
    for wrong in (packed[: len(packed) // 2], TAR, damaged(packed, len(packed) // 2)):
        (tmp_path / "y").mkdir(exist_ok=True)
        with pytest.raises(InputError, match=rf"x\.{suffix}: (not compressed|truncated)"):
            opened(tmp_path / "y", wrong, f"x.{suffix}")


def test_a_compressed_bomb_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tars, "MAX_CONTENT", 2**20)
    bomb = gzip.compress(tar_of({"x.jpg": bytes(30 * 2**20)}))
    with pytest.raises(InputError, match=r"x\.tar\.gz: refused, it unpacks to more than"):
        opened(tmp_path, bomb, "x.tar.gz")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["x.tar.gz"]


def gnu_sparse() -> bytes:
    """Return a tar archive with a file stored sparse, as `tar --sparse` writes it."""
    header = tarfile.TarInfo("real/1.jpg")
    header.type, header.size = tarfile.GNUTYPE_SPARSE, 512
    block = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    block[386:410] = b"%011o\0%011o\0" % (512, 512)
    block[483:495] = b"%011o\0" % 1024
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + sum(block[156:]) + 8 * 32)
    return bytes(block) + b"x" * 512 + bytes(1024)


def pax_sparse(version: str) -> bytes:
    """Return the same in one of the three forms of pax."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        header = tarfile.TarInfo("GNUSparseFile.1/1.jpg")
        body = b"x" * 512
        if version == "0.0":
            fields = {"GNU.sparse.offset": "512", "GNU.sparse.numbytes": "512"}
            fields |= {"GNU.sparse.size": "1024", "GNU.sparse.numblocks": "1"}
        elif version == "0.1":
            fields = {"GNU.sparse.map": "512,512", "GNU.sparse.size": "1024"}
            fields |= {"GNU.sparse.numblocks": "1", "GNU.sparse.name": "real/1.jpg"}
        else:
            fields = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
            fields |= {"GNU.sparse.name": "real/1.jpg", "GNU.sparse.realsize": "1024"}
            body = b"1\n512\n512\n".ljust(512, b"\0") + body
        header.pax_headers, header.size = fields, len(body)
        archive.addfile(header, io.BytesIO(body))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [gnu_sparse(), *map(pax_sparse, ("0.0", "0.1", "1.0"))],
    ids=["gnu", "0.0", "0.1", "1.0"],
)
def test_sparse_members_are_named(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InputError, match=r"x\.tar: '.*1\.jpg' is stored sparse.*without --sparse"):
        opened(tmp_path, data, "x.tar")


def deflated(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("x.jpg", content)
    return buffer.getvalue()


def test_zip_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = deflated(bytes(50 * 2**20))
    with pytest.raises(InputError, match=r"refused, .* no image"):
        content_of(opened(tmp_path, bomb))
    # Declares a megabyte, holds fifty: one byte too many is all that is unpacked.
    true, small = struct.pack("<I", 50 * 2**20), struct.pack("<I", 2**20)
    assert "wrong CRC-32 or size" in str(
        read_all(opened(tmp_path, bomb.replace(true, small)), ["x.jpg"])
    )
    monkeypatch.setattr(zips, "MAX_CONTENT", 1000)
    with pytest.raises(InputError, match=r"refused, .* no image"):
        content_of(opened(tmp_path, zip_of({"x.jpg": image("x", 2000)})))


def test_members_that_overlap_are_refused(tmp_path: Path) -> None:
    # As in the bomb of 42 kB that unpacks to petabytes: entries share one packed core.
    data = zip_of({"a.jpg": image("a"), "b.jpg": image("b")})
    second = data.rindex(b"PK\1\2")
    offset = struct.unpack_from("<I", data, second + 42)[0]
    shared = data[: second + 42] + struct.pack("<I", offset - 900) + data[second + 46 :]
    with pytest.raises(
        InputError, match=r"overlaps another.*unpack it, if you trust it, and set download\.origin"
    ):
        opened(tmp_path, shared)


def damaged(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def test_a_wrong_crc_is_reported_not_raised(tmp_path: Path) -> None:
    name = "coco/part0/img000000.jpg"
    at = ZIP.index(FILES[name]) + 17
    found = read_all(opened(tmp_path, damaged(ZIP, at)))
    assert "wrong CRC-32" in str(found.pop(name))
    assert found == {k: v for k, v in FILES.items() if k != name}


def test_damage_in_transit_is_read_again(cache: Cache) -> None:
    at = ZIP.index(FILES["coco/part0/img000000.jpg"]) + 17
    with serving({"x.zip": ZIP}) as server:
        origin = open_origin(f"{server.url}/x.zip", cache)
        good = server.handle
        first: list[Request] = []

        def bad_once(request: Request) -> Answer:
            first.append(request)
            return part_of(damaged(ZIP, at), request) if len(first) == 1 else good(request)

        server.handle = bad_once
        assert read_all(origin) == FILES


@pytest.mark.parametrize("cut", range(1, 10))
def test_truncated_archives_are_one_error(tmp_path: Path, cut: int) -> None:
    for name, data in (("x.zip", ZIP), ("x.tar", TAR)):
        with pytest.raises(InputError, match=r"x.(zip|tar)"):
            opened(tmp_path, data[: len(data) * cut // 10], name)


@given(st.integers(0, len(ZIP) - 1), st.integers(1, 255))
def test_no_damage_goes_unnoticed(at: int, bits: int) -> None:
    data = ZIP[:at] + bytes([ZIP[at] ^ bits]) + ZIP[at + 1 :]
    try:
        members = zip_members(data)
    except InputError:
        return
    for m in members:
        record = data[m["offset"] : m["offset"] + m["length"]]
        try:
            content = zips.content(record, m["name"], m["size"], m["stamp"])
        except (InputError, Missing):
            continue
        assert content in FILES.values()


@pytest.mark.parametrize("junk", [b"", b"PK", b"\0" * 100, b"PK\5\6" + bytes(18), b"x" * 70_000])
def test_what_is_no_archive(tmp_path: Path, junk: bytes) -> None:
    for name in ("x.zip", "x.tar"):
        if name == "x.zip" or not junk.startswith(b"\0"):
            with pytest.raises(InputError):
                opened(tmp_path, junk, name)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_members_packed_by_common_methods_are_read(tmp_path: Path, method: int) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("x.jpg", image("x"))
    assert content_of(opened(tmp_path, buffer.getvalue())) == image("x")


def test_odd_packing_methods_are_named(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.jpg", bytes(100))
    with pytest.raises(InputError, match=r"packed by method 14.*7z x"):
        content_of(opened(tmp_path, buffer.getvalue()))


def test_encrypted_members_are_named_with_what_helps(tmp_path: Path) -> None:
    data = bytearray(zip_of({"x.jpg": b"1"}))
    for at in (6, data.index(b"PK\1\2") + 8):
        data[at] |= 1
    with pytest.raises(InputError, match=r"x\.zip: refused, member 0: it is encrypted; .*7z x"):
        opened(tmp_path, bytes(data))


# --- names


def entry_named(raw: bytes, *, system: int, flags: int = 0, extra: bytes = b"") -> bytes:
    """Return a zip archive with one member whose name is these bytes."""
    data = bytearray(zip_of({"x" * len(raw): b"1"}))
    at = data.index(b"PK\1\2")
    data[at + 5] = system
    data[at + 8 : at + 10] = struct.pack("<H", flags)
    data[at + 30 : at + 32] = struct.pack("<H", len(extra))
    data[at + 46 : at + 46 + len(raw)] = raw
    data[at + 46 + len(raw) : at + 46 + len(raw)] = extra
    end = data.index(b"PK\5\6")
    data[end + 12 : end + 16] = struct.pack("<I", end - at)
    return bytes(data)


def unicode_path(raw: bytes, name: str) -> bytes:
    text = name.encode()
    return struct.pack("<2sHBI", b"up", 5 + len(text), 1, zlib.crc32(raw)) + text


NAME = "real/J\u00fcrgen \u6570.jpg"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (entry_named(NAME.encode(), system=3), NAME),  # Info-ZIP on Linux
        (entry_named(NAME.encode(), system=19), NAME),  # macOS
        (entry_named(NAME.encode(), system=0, flags=1 << 11), NAME),
        (entry_named(b"real/J\x81.jpg", system=0), "real/J\u00fc.jpg"),  # Windows, cp437
        (entry_named(b"real/J\x81.jpg", system=3), "real/J\u00fc.jpg"),  # no UTF-8
        (entry_named(b"real/_.jpg", system=3, extra=unicode_path(b"real/_.jpg", NAME)), NAME),
        (
            entry_named(b"real/\x81.jpg", system=0, extra=unicode_path(b"real/\x81.jpg", NAME)),
            NAME,
        ),
        # Renamed by a program that does not know the field: it is of another name.
        (entry_named(b"real/b.jpg", system=3, extra=unicode_path(b"a", NAME)), "real/b.jpg"),
        (entry_named(b"up/up.jpg", system=3), "up/up.jpg"),
    ],
)
def test_names_in_zips_are_read_as_other_tools_do(
    tmp_path: Path, data: bytes, expected: str
) -> None:
    assert opened(tmp_path, data).names().to_pylist() == [expected]


STRAY = ["a\tb", "a\nb", "a\x1b[31mb", "a\x85b", "a\u2028b", "caf\udce9"]


@pytest.mark.parametrize("name", STRAY)
@pytest.mark.parametrize("layout", ["folder", "tar", "zip"])
def test_a_name_that_is_no_text_is_left_out_or_named(
    tmp_path: Path, cache: Cache, caplog: pytest.LogCaptureFixture, name: str, layout: str
) -> None:
    if layout == "zip" and "\udce9" in name:
        pytest.skip("zipfile does not write it")

    def write(names: list[str]) -> str:
        files = dict.fromkeys(names, b"1")
        if layout == "folder":
            return str(unpack(tmp_path / "x", files))
        data = zip_of(files) if layout == "zip" else tar_of(files, tarfile.GNU_FORMAT)
        return str(unpack(tmp_path, {f"x.{layout}": data}) / f"x.{layout}")

    origin = open_origin(write(["1.jpg", f"{name}.txt"]), cache)
    assert origin.names().to_pylist() == ["1.jpg"]
    assert "1 names that are no plain text, of files that are no images" in caplog.text
    assert name not in caplog.text
    with pytest.raises(
        InputError, match=r"the name .* (is not UTF-8|has control characters); re"
    ) as e:
        open_origin(write(["1.jpg", f"{name}.jpg"]), cache)
    assert name not in str(e.value)


@pytest.mark.parametrize("layout", ["folder", "tar", "zip", "zip in a folder"])
def test_hidden_and_system_files_are_left_out_with_a_count(
    tmp_path: Path, cache: Cache, caplog: pytest.LogCaptureFixture, layout: str
) -> None:
    files = {
        "real/1.jpg": b"1",
        "real/.thumbnails/1.jpg": b"2",
        "__MACOSX/real/._1.jpg": b"3",
        "@eaDir/1.jpg": b"4",
        ".Trash-1000/x.zip": b"no zip",
    }
    place = tmp_path / "x"
    if layout == "folder":
        unpack(place, files)
    elif layout == "zip in a folder":
        unpack(place, {"a/x.zip": zip_of(files)})
    else:
        place = tmp_path / f"x.{layout}"
        place.write_bytes(zip_of(files) if layout == "zip" else tar_of(files))
    names = open_origin(str(place), cache).names()
    assert names.to_pylist() == [f"{'a/' * ('in' in layout)}real/1.jpg"]
    (warning,) = caplog.messages
    assert "left out: 4 hidden or system files or folders (first: '" in warning


@pytest.mark.parametrize("layout", ["tar", "zip"])
def test_markers_of_folders_are_no_members(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, layout: str
) -> None:
    files = {"real": b"", "real/1.jpg": b"1", "a/b": b"", "a/b/c/2.jpg": b"2", "x_$folder$": b""}
    data = zip_of(files) if layout == "zip" else tar_of(files)
    names = opened(tmp_path, data, f"x.{layout}").names()
    assert names.to_pylist() == ["real/1.jpg", "a/b/c/2.jpg"]
    assert "3 empty markers of folders (first: 'real')" in caplog.text


def test_links_out_of_a_folder_are_left_out_unless_that_is_allowed(
    tmp_path: Path, cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    unpack(tmp_path, {"root/real/1.jpg": b"1", "private/2.jpg": b"2"})
    (tmp_path / "root/real/2.jpg").symlink_to("../../private/2.jpg")
    (tmp_path / "root/private").symlink_to("../private")
    (tmp_path / "root/loop").symlink_to("loop")
    origin = open_origin(str(tmp_path / "root"), cache)
    assert read_all(origin, origin.names().to_pylist()) == {"real/1.jpg": b"1"}
    assert "2 links that lead out of the folder (first: 'private'); 1 links to" in caplog.text
    origin = open_origin(f"{tmp_path}/root#follow-links", cache)
    names = origin.names().to_pylist()
    assert names == ["private/2.jpg", "real/1.jpg", "real/2.jpg"]


def test_a_link_to_nowhere_is_missing(tmp_path: Path, cache: Cache) -> None:
    (tmp_path / "1.jpg").symlink_to("2.jpg")
    origin = open_origin(str(tmp_path), cache)
    rows = origin.unsure(np.array([0]))
    assert read_all(origin, ["1.jpg"]) == {"1.jpg": "not there any more"}
    assert rows.tolist() == [0]


# --- servers that fail


Wrap = Callable[[Answer, int], Answer]


def failing(server: Server, wrap: Wrap) -> None:
    """Let `wrap` change each answer, given its number."""
    good, count = server.handle, iter(range(10**6))
    server.handle = lambda request: wrap(good(request), next(count))


@pytest.mark.parametrize("etag", ["v1", ""], ids=["etag", "no etag"])
@pytest.mark.parametrize("tenths", range(10))
def test_a_connection_cut_anywhere_is_taken_up_again(cache: Cache, tenths: int, etag: str) -> None:
    def cut(answer: Answer, number: int) -> Answer:
        if number % 2 == 0 and len(answer.body) > 1:
            answer.cut = len(answer.body) * tenths // 10
        return answer

    with serving({"x.zip": ZIP, "y.zip": ZIP}, etag=etag) as server:
        failing(server, cut)
        assert read_all(open_origin(f"{server.url}/x.zip", cache)) == FILES
        assert read_all(open_whole(f"{server.url}/y.zip#whole", cache)) == FILES


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(cache: Cache, status: int) -> None:
    with serving({"x.zip": ZIP}) as server:
        failing(server, lambda answer, number: Answer(status) if number % 3 else answer)
        assert read_all(open_origin(f"{server.url}/x.zip", cache)) == FILES


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(503), "no complete answer.*503.*run again to resume"),
        (Answer(404), "not there"),
        (Answer(403), "access refused"),
        (Answer(206, b"x", cut=0), "no complete answer"),
    ],
)
def test_a_server_that_never_answers_is_one_error(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, answer: Answer, message: str
) -> None:
    with serving({}) as server:
        server.handle = lambda _: answer
        monkeypatch.setenv("DATA_URL", f"{server.url}/x.zip?signature=secret")
        with pytest.raises(InputError, match=message) as error:
            open_origin("env:DATA_URL", cache)
        assert "secret" not in str(error.value)
    with pytest.raises(InputError, match="no complete answer"):
        open_origin(f"{server.url}/x.zip", cache)  # nobody listens there any more


def test_a_server_without_ranges(cache: Cache) -> None:
    with serving({"x.zip": ZIP, "x.tar": TAR}, ranges=False) as server:
        with pytest.raises(InputError, match=r"x\.zip: .* not send parts.*append #whole"):
            open_origin(f"{server.url}/x.zip", cache)
        for archive in ("x.zip", "x.tar"):
            assert read_all(open_whole(f"{server.url}/{archive}#whole", cache)) == FILES


def test_a_download_that_was_killed_goes_on(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_file, "_PIECE", 1000)
    with serving({"x.tar": TAR}) as server:
        failing(server, lambda answer, number: answer if number < 12 else Answer(403))
        with pytest.raises(InputError, match="access refused"):
            open_whole(f"{server.url}/x.tar", cache)
    (part,) = cache.root.rglob("*.part")
    done = part.stat().st_size
    assert done >= 1000
    # The same address again, with a server that works.
    monkeypatch.setattr(whole_file, "cache_key", lambda *_: part.stem)
    with serving({"x.tar": TAR}) as server:
        origin = open_whole(f"{server.url}/x.tar", cache)
        assert server.bytes_sent < len(TAR) - done + 10
        assert read_all(origin) == FILES


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/x.zip", "unknown scheme; use hf://, http://, https://, kaggle://, s3://"),
        ("https://host/x.rar", "only a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz"),
        ("", "no such file or directory"),
        ("/no/such/place", "no such file or directory"),
    ],
)
def test_unusable_origins_are_named(cache: Cache, url: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_origin(url, cache)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://user:HIDDEN@127.0.0.1:1/x.zip?sig=HIDDEN", "env:DATA_URL$"),
        ("http://user:HID@DEN@127.0.0.1:1/x.zip", "'http://127.0.0.1:1/x.zip' and more"),
        (
            "https://host/x.tgz?X-Amz-Signature=HIDDEN",
            "'https://host/x.tgz' and more: a user, pass",
        ),
        ("https://HIDDEN@host/x.zip#whole", "env:DATA_URL$"),
        ("https://user:HIDDEN/HIDDEN@host/x.zip", "%2F and %40"),
        ("https://[HIDDEN/x.zip", "host and port cannot be read"),
        ("ftp://user:HIDDEN@host/x.zip?sig=HIDDEN", "'ftp://host/x.zip' and more"),
        ("s3://KEY:HIDDEN@bucket/x.zip", "AWS_ACCESS_KEY_ID.*AWS_PROFILE"),
        ("s3://KEY:123/HIDDEN@bucket/x.zip", "AWS_ACCESS_KEY_ID.*AWS_PROFILE"),
        ("s3://bucket/x.zip?X-Amz-Signature=HIDDEN", "AWS_ACCESS_KEY_ID.*AWS_PROFILE"),
        ("hf://user:HIDDEN@datasets/o/n/x.zip", "env:DATA_URL$"),
        ("hf://datasets/o/n/x.zip?token=HIDDEN.zip", "env:DATA_URL$"),
        ("kaggle://user:HIDDEN@owner/name", "'kaggle://owner/name' and more"),
        ("kaggle://owner/name?key=HIDDEN", "'kaggle://owner/name' and more"),
    ],
)
def test_no_message_holds_what_an_address_hides(cache: Cache, url: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        open_origin(url, cache)
    assert "HID" not in str(error.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("http://user:HIDDEN@127.0.0.1:1/x.zip?sig=HIDDEN", "no complete answer"),
        ("http://user:HID@DEN@127.0.0.1:1/x.zip", "no complete answer"),
        ("https://user:HIDDEN@host/x.rar?X-Amz-Signature=HIDDEN", "'https://host/x.rar': only a"),
        ("ftp://user:HIDDEN@host/x.zip?sig=HIDDEN", "'ftp://host/x.zip': unknown scheme"),
        ("s3://KEY:HIDDEN@bucket/x.zip", "AWS_ACCESS_KEY_ID.*AWS_PROFILE"),
        ("hf://user:HIDDEN@datasets/o/n/x.zip", "expected hf://datasets/OWNER"),
        ("kaggle://owner/name?key=HIDDEN", "'kaggle://owner/name': expected"),
        ("", r"the environment variable DATA_URL is not set; set it to the address$"),
    ],
)
def test_no_message_holds_what_a_variable_hides(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, value: str, message: str
) -> None:
    monkeypatch.setenv("DATA_URL", value)
    with pytest.raises(InputError, match=message) as error:
        open_origin("env:DATA_URL", cache)
    assert "HID" not in str(error.value)


@pytest.mark.parametrize("option", ["", "#whole"])
def test_the_manifest_names_an_address_without_what_it_hides(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    with serving({"x.zip": ZIP}) as server:
        monkeypatch.setenv("DATA_URL", server.url.replace("//", "//user:HID@") + "/x.zip?s=HID")
        origin = open_whole(f"env:DATA_URL{option}", cache)
        assert read_all(origin) == FILES
        assert origin.url == f"{server.url}/x.zip"
        assert origin.is_local() == bool(option)
