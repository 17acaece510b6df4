"""Where weight files are, for who needs not what is in them: without torch."""

from pathlib import Path

from yoloperf.core.errors import UserError
from yoloperf.datasets.folders import weights_folders


def find_weights(name: str) -> Path:
    """File of weights by path or name. `yolov3.pt`, the 2020 study's name, finds yolov3.weights where only that is there.

    Raises UserError with the weights at hand and how to fetch more.
    """
    wanted = Path(name)
    candidates = [wanted, wanted.with_suffix(".weights")] if wanted.suffix == ".pt" and wanted.parent == Path() else [wanted]
    folders = [Path()] if wanted.parent != Path() else weights_folders()
    for candidate in candidates:
        for folder in folders:
            if (folder / candidate).is_file():
                return folder / candidate
    there = sorted({path.name for folder in weights_folders() for pattern in ("*.pt", "*.weights") for path in folder.glob(pattern)})
    raise UserError(
        f"no weights {name}; at hand: {', '.join(there) or 'none'}; yolov3.weights and yolov3-tiny.weights: yoloperf data fetch NAME"
    )
