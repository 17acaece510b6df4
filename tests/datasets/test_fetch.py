"""Downloads against a real server: resumed, damaged, cut off, refused."""

import hashlib
import http.server
import io
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from yoloperf.core.errors import UserError
from yoloperf.datasets import download, fetch, sources
from yoloperf.datasets.sources import Piece

CONTENT = np.random.default_rng(0).bytes(300_000)


class Site(http.server.ThreadingHTTPServer):
    """Serves `files`; each entry of `cuts` ends one answer after so many bytes, with the rest announced but not sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.cuts: list[int] = []
        self.ranges = True
        self.lengths = True
        self.status = 200
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        site, content = self.server, self.server.files.get(self.path.lstrip("/"))
        wanted = self.headers.get("Range")
        site.asked.append(wanted)
        if content is None or site.status != 200:
            self.send_error(404 if content is None else site.status)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and site.ranges else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if site.lengths:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        self.wfile.write(body[: site.cuts.pop(0)] if site.cuts else body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def register(monkeypatch: pytest.MonkeyPatch, piece: Piece) -> None:
    monkeypatch.setitem(sources.SOURCES, "thing", (piece,))


@pytest.fixture
def weights(site: Site, monkeypatch: pytest.MonkeyPatch) -> Piece:
    site.files["thing.weights"] = CONTENT
    piece = Piece(f"{site.url}/thing.weights", "thing.weights", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    register(monkeypatch, piece)
    return piece


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_weights_come_whole_and_once(site: Site, weights: Piece, tmp_path: Path) -> None:
    assert fetch.fetch("thing") == [(Path("weights/thing.weights"), True)]
    assert Path("weights/thing.weights").read_bytes() == CONTENT
    assert fetch.fetch("thing") == [(Path("weights/thing.weights"), False)]
    assert files(tmp_path) == ["weights/thing.weights"] and site.asked == [None]


def test_a_broken_connection_is_taken_up_again_at_once(site: Site, weights: Piece) -> None:
    site.cuts = [100_000, 50_000]
    fetch.fetch("thing")
    assert Path("weights/thing.weights").read_bytes() == CONTENT
    assert site.asked == [None, "bytes=100000-", "bytes=150000-"]


def test_a_part_of_an_earlier_run_is_resumed(site: Site, weights: Piece, tmp_path: Path) -> None:
    Path("weights").mkdir()
    Path("weights/.thing.weights.part").write_bytes(CONTENT[:123_456])
    fetch.fetch("thing")
    assert site.asked == ["bytes=123456-"]
    assert Path("weights/thing.weights").read_bytes() == CONTENT and files(tmp_path) == ["weights/thing.weights"]


def test_a_whole_part_is_only_checked(site: Site, weights: Piece) -> None:
    Path("weights").mkdir()
    Path("weights/.thing.weights.part").write_bytes(CONTENT)
    fetch.fetch("thing")
    assert site.asked == [] and Path("weights/thing.weights").read_bytes() == CONTENT


def test_a_server_without_ranges_sends_everything_again(site: Site, weights: Piece) -> None:
    site.ranges, site.cuts = False, [100_000]
    fetch.fetch("thing")
    assert len(site.asked) == 2 and Path("weights/thing.weights").read_bytes() == CONTENT


def test_a_connection_that_brings_nothing_is_given_up_and_the_part_kept(site: Site, weights: Piece, tmp_path: Path) -> None:
    site.cuts = [100_000] + [0] * download.TRIES
    with pytest.raises(UserError, match="the connection broke after 100000 bytes; run the command again"):
        fetch.fetch("thing")
    assert files(tmp_path) == ["weights/.thing.weights.part"]
    fetch.fetch("thing")
    assert site.asked[-1] == "bytes=100000-" and files(tmp_path) == ["weights/thing.weights"]


@pytest.mark.parametrize("content", [CONTENT[:-1] + b"?", CONTENT + b"more"])
def test_a_damaged_or_longer_file_is_refused_and_removed(site: Site, weights: Piece, tmp_path: Path, content: bytes) -> None:
    site.files["thing.weights"] = content
    with pytest.raises(UserError, match="instead of"):
        fetch.fetch("thing")
    assert files(tmp_path) == []


def test_a_file_that_ends_early_is_not_taken_for_whole(site: Site, weights: Piece, tmp_path: Path) -> None:
    site.files["thing.weights"], site.ranges, site.lengths = CONTENT[:-5000], False, False
    with pytest.raises(UserError, match="broke|instead of"):
        fetch.fetch("thing")
    assert not Path("weights/thing.weights").exists()


def test_a_refusal_names_the_mirror(site: Site, weights: Piece) -> None:
    site.status = 403
    with pytest.raises(UserError, match="answers 403 .*--mirror"):
        fetch.fetch("thing")
    assert len(site.asked) == 1


def test_no_server_at_all(weights: Piece, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, Piece("http://127.0.0.1:9/thing.weights", "thing.weights", 5))
    with pytest.raises(UserError, match="refused"):
        fetch.fetch("thing")


def test_mirrors_of_every_kind(site: Site, weights: Piece, tmp_path: Path) -> None:
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / "thing.weights").write_bytes(CONTENT)
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "thing.weights").write_bytes(CONTENT)
    places = ["shelf", "shelf/thing.weights", (tmp_path / "a b").as_uri(), site.url, f"{site.url}/", f"{site.url}/thing.weights"]
    for mirror in places:
        fetch.fetch("thing", mirror)
        assert Path("weights/thing.weights").read_bytes() == CONTENT
        Path("weights/thing.weights").unlink()
    assert (tmp_path / "shelf" / "thing.weights").read_bytes() == CONTENT and len(site.asked) == 3
    with pytest.raises(UserError, match="--mirror takes a folder that holds thing.weights"):
        fetch.fetch("thing", str(tmp_path / "weights"))


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(UserError, match="did you mean 'bccd'.*yolov3-tiny.weights"):
        fetch.fetch("bcdd")


def test_two_at_a_time_do_not_mix(site: Site, weights: Piece) -> None:
    with download.obtain(weights, Path("weights")), pytest.raises(UserError, match="another process is downloading"):
        fetch.fetch("thing")


def test_a_disk_without_room_is_noticed_before(weights: Piece, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, Piece(weights.url, "thing.weights", 10**18))
    with pytest.raises(UserError, match="make room"):
        fetch.fetch("thing")
    assert site.asked == []


def archive_of(names: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    return stream.getvalue()


def serve_archive(site: Site, monkeypatch: pytest.MonkeyPatch, names: dict[str, bytes], manifest: str | None) -> Piece:
    site.files["thing.zip"] = archive_of(names)
    piece = Piece(f"{site.url}/thing.zip", "thing", members={"top/": ""}, manifest=manifest)
    register(monkeypatch, piece)
    return piece


# sha256 of the two lines "<sha256 of a>  images/a.jpg" and "<sha256 of b>  images/b.jpg"
LINES = "".join(f"{hashlib.sha256(name.encode()).hexdigest()}  images/{name}.jpg\n" for name in ("a", "b"))
MANIFEST = hashlib.sha256(LINES.encode()).hexdigest()
NAMES = {"top/images/a.jpg": b"a", "top/images/b.jpg": b"b"}


@pytest.mark.parametrize("lengths", [True, False])
def test_an_archive_without_a_lasting_checksum_is_known_by_its_files(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lengths: bool
) -> None:
    site.lengths = lengths
    serve_archive(site, monkeypatch, NAMES, MANIFEST)
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets/.thing.zip.part").write_bytes(b"of another packing")
    assert fetch.fetch("thing") == [(Path("datasets/thing"), True)]
    assert files(tmp_path) == ["datasets/thing/images/a.jpg", "datasets/thing/images/b.jpg"]


def test_other_files_in_the_archive_are_refused_and_nothing_is_left(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    serve_archive(site, monkeypatch, {**NAMES, "top/images/b.jpg": b"?"}, MANIFEST)
    with pytest.raises(UserError, match="are not those of"):
        fetch.fetch("thing")
    assert not Path("datasets/thing").exists()


def test_a_page_instead_of_an_archive(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_archive(site, monkeypatch, NAMES, MANIFEST)
    site.files["thing.zip"] = b"<html>please log in</html>"
    with pytest.raises(UserError, match="no zip archive"):
        fetch.fetch("thing")


def test_data_goes_to_the_folder_that_the_environment_names(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    serve_archive(site, monkeypatch, NAMES, MANIFEST)
    (tmp_path / "own").mkdir()
    monkeypatch.setenv("YOLOPERF_DATA", str(tmp_path / "own"))
    assert fetch.fetch("thing") == [(tmp_path / "own" / "thing", True)]
    (tmp_path / "own").chmod(0o555)
    assert fetch.fetch("thing") == [(tmp_path / "own" / "thing", False)]  # it is there, wherever new ones would go
    (tmp_path / "own").chmod(0o755)
    (tmp_path / "other").mkdir(0o555)
    monkeypatch.setenv("YOLOPERF_DATA", str(tmp_path / "other"))
    assert fetch.fetch("thing", site.url) == [(Path("datasets/thing"), True)]


def test_weights_that_are_found_by_name_are_not_fetched_again(
    site: Site, weights: Piece, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("YOLOPERF_DATA", str(tmp_path / "shelf/data"))
    (tmp_path / "shelf/weights").mkdir(parents=True)
    (tmp_path / "shelf/weights/thing.weights").write_bytes(CONTENT)
    assert fetch.fetch("thing") == [(tmp_path / "shelf/weights/thing.weights", False)] and site.asked == []


def test_an_unpacked_mirror_is_vouched_for_by_the_manifest(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    serve_archive(site, monkeypatch, NAMES, MANIFEST)
    images = tmp_path / "shelf/thing/images"
    images.mkdir(parents=True)
    (images / "a.jpg").write_text("a")
    with pytest.raises(UserError, match="are not those of"):
        fetch.fetch("thing", "shelf")
    (images / "b.jpg").write_text("b")
    fetch.fetch("thing", "shelf")
    assert files(tmp_path / "datasets") == ["thing/images/a.jpg", "thing/images/b.jpg"]


def test_real_bccd_is_what_its_manifest_says(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("YOLOPERF_DATA")
    assert fetch.fetch("bccd", str(real_data)) == [(Path("datasets/bccd"), True)]
    assert len(list(Path("datasets/bccd/JPEGImages").iterdir())) == 364


def test_every_source_is_well_formed() -> None:
    for name, pieces in sources.SOURCES.items():
        for piece in pieces:
            assert piece.url.startswith("http") and piece.name and (piece.size_bytes or piece.manifest), name
            assert piece.sha256 is None or len(piece.sha256) == 64
            assert piece.target.startswith(f"{name.split('-')[0]}") or piece.target == name
