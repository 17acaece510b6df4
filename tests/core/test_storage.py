import time
from pathlib import Path

import pytest

from yoloperf.core.datafolder import look
from yoloperf.core.environment import collect
from yoloperf.core.storage import filesystem, storage

MOUNTS = """\
/dev/root / ext4 rw 0 0
tmpfs /tmp tmpfs rw 0 0
server:/export /mnt/big\\040disk nfs4 rw 0 0
/dev/sdb /mnt ext4 rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/home/me/data", "ext4"),
        ("/tmp", "tmpfs"),
        ("/tmp/x", "tmpfs"),
        ("/tmpx", "ext4"),
        ("/mnt/big disk/coco", "nfs4"),
        ("/mnt/x", "ext4"),
    ],
)
def test_the_file_system_is_that_of_the_longest_mount_above_the_folder(tmp_path: Path, folder: str, kind: str) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    assert filesystem(Path(folder), mounts) == kind
    assert filesystem(Path(folder), tmp_path / "none") is None


def test_some_of_the_files_are_read_and_never_for_long(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.jpg").write_bytes(bytes(3 * 2**20))
    (tmp_path / ".yoloperf").mkdir()
    started = time.perf_counter()
    found = storage(tmp_path)
    assert time.perf_counter() - started < 0.5
    assert found["data_filesystem"]
    assert found["data_read_bytes_per_s"] > 0
    mebibytes = float(found["data_read_note"].split()[0])
    assert 0 < mebibytes <= 65
    assert storage(tmp_path) is found, "once a process"


def test_nothing_to_read_is_no_speed(tmp_path: Path) -> None:
    assert storage(tmp_path)["data_read_bytes_per_s"] is None
    assert storage(tmp_path / "absent")["data_read_note"] == "no file could be read"


def data_set(root: Path) -> None:
    for split, count in (("train", 5), ("val", 2)):
        (root / "images" / split).mkdir(parents=True)
        for number in range(count):
            (root / "images" / split / f"{number}.jpg").write_bytes(b"x")
        (root / "images" / split / "notes.txt").write_text("")


def test_a_data_set_is_found_as_training_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("YOLOPERF_DATA", raising=False)
    Path("data").mkdir()
    Path("data/own.yaml").write_text("path: own\ntrain: images/train\nval: [images/val]\nnames: [a]\n")
    assert look("own.yaml") is None
    data_set(tmp_path / "datasets" / "own")
    place = look("own.yaml")
    assert place
    assert (place.root, place.train_images, place.val_images) == ((tmp_path / "datasets/own").resolve(), 5, 2)
    assert look("own") == place
    data_set(tmp_path / "elsewhere" / "own")
    monkeypatch.setenv("YOLOPERF_DATA", str(tmp_path / "elsewhere"))
    assert (look("own.yaml") or place).root == (tmp_path / "elsewhere/own").resolve()
    Path("list.yaml").write_text("path: .\ntrain: train.txt\nval: none.txt\nnames: [a]\n")
    Path("train.txt").write_text("a.jpg\nb.jpg\n\n")
    listed = look("list.yaml")
    assert listed
    assert (listed.train_images, listed.val_images) == (2, None)


@pytest.mark.parametrize("text", ["[", "a list", "path: nowhere\ntrain: x"])
def test_a_data_set_that_cannot_be_found_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    assert look(str(path)) is None
    assert look("no-such.yaml") is None


def test_the_counts_are_those_of_training(real_data: Path) -> None:
    from yoloperf.datasets.config import load_data_config
    from yoloperf.datasets.labels import load_split

    for name in ("bccd.yaml", "coco128.yaml"):
        place, config = look(name), load_data_config(name)
        assert place
        assert place.root == config.root
        assert place.train_images == len(load_split(config, "train").images)
        assert place.val_images == len(load_split(config, "val").images)


def test_the_card_of_a_run_knows_its_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data_set(tmp_path)
    Path("own.yaml").write_text("train: images/train\nval: images/val\nnames: [a]\n")
    assert collect("own.yaml")["data_folder"] == str(tmp_path.resolve())
    assert "data_folder" not in collect("elsewhere.yaml")
