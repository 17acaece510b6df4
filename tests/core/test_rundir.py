import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from yoloperf.core.errors import UserError
from yoloperf.core.rundir import RunDir, free_folder, newest_folder


@pytest.mark.parametrize(("name", "made"), [("exp", ["exp", "exp2", "exp3"]), ("bs1", ["bs1", "bs1-2", "bs1-3"])])
def test_a_free_folder_is_taken_at_once(name: str, made: list[str], tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        folders = list(pool.map(lambda _: free_folder(tmp_path / "runs", name), range(3)))
    assert sorted(folder.name for folder in folders) == made and all(folder.is_dir() for folder in folders)


def test_the_newest_folder_is_of_that_name(tmp_path: Path) -> None:
    """Others have later checkpoints, and names that begin alike."""
    for at, name in enumerate(("bs1", "bs1-2", "bs16", "bs1-02", "bs1-1", "exp", "exp1", "exp-2", "exp02")):
        weights = RunDir(tmp_path / name).last_weights
        weights.parent.mkdir(parents=True)
        weights.write_bytes(b"")
        os.utime(weights, (at, at))
    assert newest_folder(tmp_path, "bs1").name == "bs1-2"
    assert newest_folder(tmp_path, "exp").name == "exp"
    with pytest.raises(UserError, match="nothing to resume"):
        newest_folder(tmp_path, "b")
