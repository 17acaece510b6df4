import re
from pathlib import Path

import pytest

from yoloperf.core.errors import UserError
from yoloperf.yolo.recipe import FOLDER, load_recipe


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("ema_ramp_steps", "0", "ema_ramp_steps must be above 0, not 0"),
        ("scale", "1.5", "scale must be from 0 to 0.99, not 1.5"),
        ("lr0", "-1", "lr0 must be above 0, not -1"),
        ("anchor_ratio", "0.5", "anchor_ratio must be at least 1, not 0.5"),
        ("box", ".inf", "box must be at least 0, not inf"),
        ("mosaic", ".nan", "mosaic must be from 0 to 1, not nan"),
    ],
)
def test_a_value_out_of_range_is_one_line(key: str, value: str, message: str, tmp_path: Path) -> None:
    text = (FOLDER / "default.yaml").read_text()
    (tmp_path / "own.yaml").write_text(re.sub(rf"(?m)^{key}:.*", f"{key}: {value}", text))
    with pytest.raises(UserError, match=f"{re.escape(message)}$"):
        load_recipe(str(tmp_path / "own.yaml"))


def test_bytes_that_are_no_text_are_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match="is no YAML"):
        load_recipe(str(tmp_path / "own.yaml"))
