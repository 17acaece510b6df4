from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

WIDTH, HEIGHT = 96, 64


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Write a YOLO data set of dark discs (class 0) and bright squares (class 1); returns its YAML."""

    def make(train: int = 8, val: int = 4, seed: int = 0) -> Path:
        rng = np.random.default_rng(seed)
        folder = tmp_path / "shapes"
        for split, count in (("train", train), ("val", val)):
            for kind in ("images", "labels"):
                (folder / kind / split).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                image = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
                lines = []
                for _ in range(int(rng.integers(1, 4))):
                    side = int(rng.integers(14, 26))
                    x, y = int(rng.integers(0, WIDTH - side)), int(rng.integers(0, HEIGHT - side))
                    label = int(rng.integers(0, 2))
                    if label:
                        image[y : y + side, x : x + side] = 230
                    else:
                        cv2.circle(image, (x + side // 2, y + side // 2), side // 2, (30, 30, 60), -1)
                    lines.append(f"{label} {(x + side / 2) / WIDTH} {(y + side / 2) / HEIGHT} {side / WIDTH} {side / HEIGHT}")
                cv2.imwrite(str(folder / "images" / split / f"{number}.png"), image)
                (folder / "labels" / split / f"{number}.txt").write_text("\n".join(lines) + "\n")
        yaml = tmp_path / "shapes.yaml"
        yaml.write_text(f"path: {folder}\ntrain: images/train\nval: images/val\nnames: [disc, square]\n")
        return yaml

    return make
