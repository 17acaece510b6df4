"""Fetches data sets and weights: download, check, unpack, and only then show them under their name."""

import os
import shutil
import tempfile
import zipfile
from pathlib import Path

from yoloperf.core.errors import UserError, choose
from yoloperf.datasets.config import data_folders
from yoloperf.datasets.download import local_mirror, obtain
from yoloperf.datasets.folders import data_home, need_room, new_folder, weights_folders
from yoloperf.datasets.sources import SOURCES, Piece
from yoloperf.datasets.unpack import manifest_hash, unpack, unpacked_bytes, wanted_members


def fetch(name: str, mirror: str | None = None) -> list[tuple[Path, bool]]:
    """Bring everything that belongs to a name; returns each place with whether it is new.

    Data sets go to $YOLOPERF_DATA or datasets/, weights to weights/. What is in one of the folders where it is looked for
    stays as it is. Raises UserError for an unknown name and whatever keeps the files from coming here whole.
    """
    done = []
    for piece in SOURCES[choose(name, SOURCES, "download")]:
        there = next((folder / piece.target for folder in _searched(piece) if (folder / piece.target).exists()), None)
        target = there or (data_home() if piece.members else Path("weights")) / piece.target
        if not there:
            _bring(piece, target, mirror)
        done.append((target, not there))
    return done


def _searched(piece: Piece) -> list[Path]:
    """Folders where it may be already: data_home is one of the data folders, and may not be the first."""
    return data_folders() if piece.members else weights_folders()


def _bring(piece: Piece, target: Path, mirror: str | None) -> None:
    here = local_mirror(mirror)
    if piece.manifest and here is not None and not (here / piece.name).is_file() and (here / piece.target).is_dir():
        # a mirror may hold the data set unpacked: the manifest vouches for it as well
        with new_folder(target) as folder:
            shutil.copytree(here / piece.target, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
            _check_manifest(piece, folder)
        return
    with obtain(piece, target.parent, mirror) as file:
        if not piece.members:
            _copy(file, target)
            return
        try:
            archive = zipfile.ZipFile(file)
        except zipfile.BadZipFile as error:
            raise UserError(f"{file} is no zip archive: {error}; name another --mirror") from error
        with archive, new_folder(target) as folder:
            wanted = wanted_members(archive, piece.members)
            need_room(folder, unpacked_bytes(wanted))
            unpack(archive, wanted, folder)
            _check_manifest(piece, folder)


def _check_manifest(piece: Piece, folder: Path) -> None:
    if piece.manifest and manifest_hash(folder) != piece.manifest:
        raise UserError(f"the files of {piece.target} are not those of {piece.url}: name another --mirror")


def _copy(file: Path, target: Path) -> None:
    """Copy a file so that the target appears whole."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as stream:
            try:
                with file.open("rb") as source:
                    shutil.copyfileobj(source, stream)
                os.chmod(stream.name, 0o644)
                os.replace(stream.name, target)
            except BaseException:
                os.unlink(stream.name)
                raise
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror}; make room or choose another folder") from error
