"""Where weight files are, for who needs not what is in them: without torch."""

import os
from pathlib import Path

from yoloperf.core.errors import UserError


def search_folders() -> list[Path]:
    """Where weights are looked for by name: here, weights/, and beside or in the folder of YOLOPERF_DATA."""
    data = os.environ.get("YOLOPERF_DATA")
    return [Path(), Path("weights"), *([Path(data), Path(data) / "weights", Path(data).parent / "weights"] if data else [])]


def find_weights(name: str) -> Path:
    """File of weights by path or name. `yolov3.pt`, the 2020 study's name, finds yolov3.weights where only that is there.

    Raises UserError with the weights at hand and how to fetch more.
    """
    wanted = Path(name)
    candidates = [wanted, wanted.with_suffix(".weights")] if wanted.suffix == ".pt" and wanted.parent == Path() else [wanted]
    folders = [Path()] if wanted.parent != Path() else search_folders()
    for candidate in candidates:
        for folder in folders:
            if (folder / candidate).is_file():
                return folder / candidate
    there = sorted({path.name for folder in search_folders() for pattern in ("*.pt", "*.weights") for path in folder.glob(pattern)})
    raise UserError(
        f"no weights {name}; at hand: {', '.join(there) or 'none'}; yolov3.weights and yolov3-tiny.weights: yoloperf data fetch NAME"
    )
