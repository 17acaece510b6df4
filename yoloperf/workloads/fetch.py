"""Speech Commands, version 2: downloaded, checked, unpacked."""

import shutil
import tarfile
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from yoloperf.core.errors import UserError
from yoloperf.datasets.download import obtain
from yoloperf.datasets.folders import need_room, new_folder
from yoloperf.datasets.sources import Piece

# size and checksum as torchaudio and TensorFlow Datasets give them
SPEECH_COMMANDS = Piece(
    "https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
    "speech-commands",
    2_428_923_189,
    "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
    {"": ""},
)
_MOST_GROWTH = 4  # sound hardly shrinks


def fetch(target: Path, mirror: str | None = None, piece: Piece = SPEECH_COMMANDS) -> bool:
    """Bring the data set to `target`; False where it is there. Raises UserError for whatever keeps it from coming here whole."""
    if target.exists():
        return False
    with obtain(piece, target.parent, mirror) as file, new_folder(target) as folder:
        try:
            with tarfile.open(file) as archive:
                _unpack(archive, folder, _MOST_GROWTH * file.stat().st_size)
        except (tarfile.TarError, EOFError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk, which new_folder speaks of
            raise UserError(f"{file} is no sound archive: {error}; name another --mirror") from error
    return True


def _unpack(archive: tarfile.TarFile, folder: Path, most_bytes: int) -> None:
    """Write its plain files below the folder. Raises UserError for an archive that leads out or is far larger than it was packed.

    By hand: `tarfile`'s own filters came with Python 3.11.4.
    """
    members = [member for member in archive.getmembers() if member.isfile() and not PurePosixPath(member.name).name.startswith("._")]
    total = sum(member.size for member in members)
    if total > most_bytes:
        raise UserError(f"{archive.name!s} is not safe to unpack: it would become {total} bytes")
    need_room(folder, total)
    for member in tqdm(members, "unpacking", unit="file", disable=None, leave=False):
        place, content = PurePosixPath(member.name), archive.extractfile(member)
        if place.is_absolute() or ".." in place.parts:
            raise UserError(f"{archive.name!s} is not safe to unpack: it holds the path {member.name!r}")
        assert content
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        with content, path.open("xb") as plain:
            shutil.copyfileobj(content, plain)
