"""The import rules of docs/architecture.md, read from the source, and the weight of what a room drags in."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "yoloperf"

MAY_IMPORT = {
    "core": set(),
    "datasets": {"core"},
    "yolo": {"core", "datasets"},
    "harness": {"core"},
    "parsing": {"core"},
    "report": {"core", "parsing"},
    "bench": {"core", "datasets", "harness", "parsing"},
    "workloads": {"core", "datasets", "yolo"},
    "service": {"core", "datasets", "yolo", "workloads", "harness", "parsing", "report"},
    "offload": {"core", "datasets", "yolo", "workloads", "service", "parsing", "report"},
}
# what only some rooms may import
HEAVY = {
    "torch": {"yolo", "workloads", "service"},
    "torchvision": {"yolo", "workloads"},
    **dict.fromkeys(("onnx", "onnxruntime", "openvino"), {"yolo"}),
    "matplotlib": {"report"},
    "pandas": set(),  # it is what tests calculate with by other means
    "ultralytics": set(),
}


def _imports(file: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found += [node.module or ""]
    return found


MODULES = [(path, path.relative_to(PACKAGE).parts[0]) for path in sorted(PACKAGE.glob("*/**/*.py"))]


@pytest.mark.parametrize(("file", "room"), MODULES, ids=[str(path.relative_to(PACKAGE)) for path, _ in MODULES])
def test_imports_point_one_way(file: Path, room: str) -> None:
    for name in _imports(file):
        top, _, rest = name.partition(".")
        if top == "yoloperf" and rest:
            assert rest.split(".")[0] in MAY_IMPORT[room] | {room}, f"{room} must not import {name}"
        assert room in HEAVY.get(top, {room}), f"{room} must not import {top}"


@pytest.mark.parametrize("verb", ["sweep", "parse", "table", "status"])
def test_laptop_verbs_start_without_torch(verb: str) -> None:
    code = f"import sys; from yoloperf.cli import load; load({verb!r}); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
