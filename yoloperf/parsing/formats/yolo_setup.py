"""What ultralytics trainers (YOLOv3, YOLOv5, 8.x) print before the first epoch: versions, device, arguments, data."""

import re
from typing import Any

from yoloperf.parsing.command import take_arguments, whole
from yoloperf.parsing.draft import Draft
from yoloperf.parsing.formats.base import Answer, LineFormat, Signal
from yoloperf.parsing.quantity import size, text

_TORCH = re.compile(rb"\btorch[ -](\d[\w.+]*)")
_CUDA_OF_TORCH = re.compile(r"\+cu(\d+)(\d)$")
_VERSION = re.compile(rb"Ultralytics (?:YOLOv?)?(\d+\.\d+\.\d+)")
_PYTHON = re.compile(rb"\bPython-(\d[\w.]*)")
_DEVICE = re.compile(rb"(?>.*?\b(CUDA:|MPS|CPU)\d* ?\()(.+?)(?:, (\d[\d.]*)(?:MB|MiB))?\)\s*$")
_OLD_DEVICE = re.compile(rb"_CudaDeviceProperties\(name='([^']*)', total_memory=(\d+)MB\)")
_ARGUMENT = re.compile(r"\b(\w+)=('[^']*'|\"[^\"]*\"|\[[^\]]*\]|\([^)]*\)|[^,()]*)")
_SCANNED = re.compile(rb"(?:(train|val|test): )?\s*Scanning '?(\S++).*\b(\d+)/(\d+)\b", re.DOTALL)
_LAYER = re.compile(rb"\s*\d+\s+(?:-?\d+|\[[-\d, ]+\])\s+\d+\s+\d+\s+[\w.]+\.\w+\s+\[")
_IMAGE_SIZE = re.compile(rb"Image sizes (\d+) train")
_WORKERS = re.compile(rb"Using (\d+) dataloader workers")
_STARTING = re.compile(rb"Starting training for (\d+) epochs")
_GFLOP = re.compile(rb"\bsummary: .* (\d+(?:\.\d+)?) GFLOPs")
_SUMMARY_SIDE = 640  # pixels: version 8 counts the operations of a square picture of that side, whatever it trains with
_RESUMED = ("batch_size", "epochs", "model", "weights", "dataset", "seed")
_RESUMING = re.compile(rb"Resuming training .* from epoch \d+ to (\d+) total epochs")


class YoloSetup(LineFormat):
    name = "yolo-setup"
    description = "ultralytics YOLOv3, YOLOv5 and 8.x: versions, device, arguments and data set, as printed before training"
    heads = (
        ("device", rb"Using (?:torch \d|CUDA device|CPU\b|Apple)", rb"device\d+ _Cuda", rb"CUDA:\d+ \("),
        ("device", rb"YOLOv[35]\s+(?:[^\w\s]{1,8}\s+)?(?:v?\d|torch)", rb"Ultralytics (?:YOLOv?)?\d+\.\d"),
        ("arguments", rb"Namespace\(", rb"train: \w+=", rb"engine/trainer: "),
        ("scanned", rb"train: \s*Scanning ", rb"val: \s*Scanning ", rb"test: \s*Scanning ", rb"Scanning "),
        ("image_size", rb"Image sizes \d+ "),
        ("workers", rb"Using \d+ dataloader workers"),
        ("amp", rb"AMP: checks passed"),
        ("starting", rb"Starting training for \d+ epochs"),
        ("resuming", rb"Resuming training "),
        ("auto_batch", rb"AutoBatch: Using batch-size \d+"),
        ("layers", rb"from\s+n\s+params\s+module", rb"\d\d*+\s+(?:-?\d+|\[[-\d, ]+\])\s+\d+\s+\d+\s+[\w.]+\.\w+\s+\["),
        ("summary", rb"[\w.-][\w.-]*+ (?:[\w-]*+ )?+[Ss]ummary(?: \(fused\))?: "),
        ("known", rb"[Hh]yperparameters:? ", rb"Transferred \d"),
        ("known", rb"Optimizer (?:groups|stripped)", rb"optimizer: ", rb"Overriding model\.yaml", rb"Logging results to"),
        ("known", rb"Start Tensorboard", rb"TensorBoard: ", rb"tensorboard: ", rb"Plotting labels", rb"Freezing layer", rb"AMP: "),
        ("known", rb"AutoAnchor: ", rb"autoanchor: ", rb"Analyzing anchors", rb"albumentations: ", rb"Fusing layers", rb"Learn more"),
        ("known", rb"Closing dataloader mosaic", rb"Results saved to", rb"Speed: \d", rb"wandb: ", rb"github: ", rb"Comet: "),
        ("known", rb"ClearML: ", rb"train: (?:New cache|Caching|Fast image)", rb"val: (?:New cache|Caching|Fast image)"),
    )

    def __init__(self, run: Draft) -> None:
        super().__init__(run)
        self.arguments_seen = False
        self.may_be_defaults = False  # yolov5 prints its flags before it looks for those of the run that it resumes
        self.banner: dict[str, Any] = {}
        self.taken: list[str] = []  # columns that have their value from the banner
        self._take_banner(run.carried.get("banner", {}))

    def device(self, line: bytes) -> Answer:
        """A banner: versions and device, a line a GPU. The last one before the epochs is the run's."""
        if line.startswith(b"Using torch") and self.another(self.run.trainer_done):
            return Signal.NEXT_RUN
        late = self.run.epochs_seen or self.run.trainer_done  # before the last validation, or the next run's, whose arguments follow
        banner = self._banner(line)
        if "torch" not in banner:  # goes on, with another GPU
            before = self.run.pending.get("banner", {}) if late else self.banner
            banner = banner | before | {"processes": (before.get("processes") or 0) + banner.get("processes", 0) or None}
        if late:
            self.run.pending["banner"] = banner
        else:
            self._take_banner(banner)
        return True

    def _take_banner(self, banner: dict[str, Any]) -> None:
        self.run.forget(self.taken)
        self.banner = banner
        self.taken = [name for name, value in banner.items() if name != "version" and value is not None and name not in self.run.facts]
        for name in self.taken:
            self.run.set(name, banner[name])
        self.run.trainer_version = banner.get("version")

    def _banner(self, line: bytes) -> dict[str, Any]:
        found: dict[str, Any] = {}
        version = _VERSION.match(line)
        if version:
            found["version"] = tuple(int(part) for part in version[1].split(b"."))
        torch, python, device = _TORCH.search(line), _PYTHON.search(line), _DEVICE.match(line)
        if line.startswith((b"YOLOv3", b"YOLOv5", b"Ultralytics")):
            found["engine"] = {b"YOLOv3": "yolov3", b"YOLOv5": "yolov5"}.get(line[:6], "ultralytics")
        if torch:
            found["torch"] = text(torch[1])
            cuda = _CUDA_OF_TORCH.search(text(torch[1]))
            if cuda:
                found["cuda"] = f"{cuda[1]}.{cuda[2]}"
        if python:
            found["python"] = text(python[1])
        old = _OLD_DEVICE.search(line)
        if old:
            found |= {"gpu_name": text(old[1]), "gpu_mem_bytes": size(old[2] + b"MiB"), "processes": 1}
        elif device and device[1] == b"CPU":
            found |= {"cpu_name": text(device[2]), "precision_mode": "fp32"}  # these trainers know no other without a GPU
        elif device:
            found |= {"gpu_name": text(device[2]), "gpu_mem_bytes": size(device[3] + b"MiB") if device[3] else None, "processes": 1}
        return found

    def arguments(self, line: bytes) -> Answer:
        if self.another(self.arguments_seen and (self.run.trainer_done or self.run.epochs_seen)):
            return Signal.NEXT_RUN
        self.arguments_seen = self.run.trainer_started = True
        self.may_be_defaults = line.startswith(b"train: ")
        pairs = {name: value.strip("'\"") for name, value in _ARGUMENT.findall(text(line))}
        take_arguments(self.run, pairs)
        if self.run.facts.get("engine") is None and str(self.run.facts.get("model", "")).startswith(("yolov3", "yolov5")):
            self.run.default("engine", str(self.run.facts["model"])[:6])
        return True

    def scanned(self, line: bytes) -> Answer:
        if not self.run.trainer_started:
            return False
        match = _SCANNED.match(line)
        if match and not self.run.trainer_done:
            split = match[1] or re.split(rb"[/\\\\]", match[2])[-1]
            self.run.default("val_images" if split.startswith((b"val", b"test")) else "train_images", whole(text(match[4])))
        return True

    def image_size(self, line: bytes) -> Answer:
        match = _IMAGE_SIZE.match(line)
        if match:
            self.run.replace("img_size", int(match[1]))
        return True

    def workers(self, line: bytes) -> Answer:
        match = _WORKERS.match(line)
        if match:
            self.run.default("workers", int(match[1]))
        return True

    def amp(self, line: bytes) -> Answer:
        self.run.default("precision_mode", "amp")
        return True

    def starting(self, line: bytes) -> Answer:
        match = _STARTING.match(line)
        self.run.trainer_started = True
        if match:
            self.run.default("epochs", int(match[1]))
        return True

    def resuming(self, line: bytes) -> Answer:
        match = _RESUMING.match(line)
        if match:
            if self.may_be_defaults and not self.run.whole_folder:
                self.run.forget(_RESUMED)
            self.run.default("epochs", int(match[1]))
        return True

    def auto_batch(self, line: bytes) -> Answer:
        match = re.search(rb"batch-size (\d+)", line)
        if match:
            self.run.default("batch_size", int(match[1]))
        return True

    def layers(self, line: bytes) -> Answer:
        return _is_layer

    def summary(self, line: bytes) -> Answer:
        """Operations of a forward pass; both gradients take as many each, and all grow with the picture's area."""
        match, side = _GFLOP.search(line), self.run.facts.get("img_size")
        if match and side and (self.run.trainer_version or (0,)) >= (8,):
            self.run.default("flops_per_image", 3e9 * float(match[1]) * (side / _SUMMARY_SIDE) ** 2)
        return self.run.trainer_started

    def known(self, line: bytes) -> Answer:
        """Lines that say nothing that is kept; other programs print some of them too."""
        return self.run.trainer_started


def _is_layer(line: bytes) -> bool:
    return _LAYER.match(line) is not None
