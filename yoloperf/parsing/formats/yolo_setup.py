"""What ultralytics trainers (YOLOv3, YOLOv5, 8.x) print before the first epoch: versions, device, arguments, data."""

import re

from yoloperf.parsing.command import take_arguments, whole
from yoloperf.parsing.formats.base import Answer, LineFormat, Signal
from yoloperf.parsing.quantity import size, text

_TORCH = re.compile(rb"\btorch[ -](\d[\w.+]*)")
_CUDA_OF_TORCH = re.compile(r"\+cu(\d+)(\d)$")
_VERSION = re.compile(rb"Ultralytics (?:YOLOv?)?(\d+\.\d+\.\d+)")
_PYTHON = re.compile(rb"\bPython-(\d[\w.]*)")
_DEVICE = re.compile(rb"\b(?:CUDA:\d+|MPS|CPU) ?\((.+?)(?:, (\d[\d.]*)(?:MB|MiB))?\)\s*$")
_OLD_DEVICE = re.compile(rb"_CudaDeviceProperties\(name='([^']*)', total_memory=(\d+)MB\)")
_ARGUMENT = re.compile(r"\b(\w+)=('[^']*'|\"[^\"]*\"|\[[^\]]*\]|\([^)]*\)|[^,()]*)")
_SCANNED = re.compile(rb"(?:(train|val|test): )?\s*Scanning .*?\b(\d+)/(\d+)\b(?!.*\d/\d)", re.DOTALL)
_IMAGE_SIZE = re.compile(rb"Image sizes (\d+) train")
_WORKERS = re.compile(rb"Using (\d+) dataloader workers")
_STARTING = re.compile(rb"Starting training for (\d+) epochs")
_RESUMING = re.compile(rb"Resuming training .* from epoch \d+ to (\d+) total epochs")


class YoloSetup(LineFormat):
    name = "yolo-setup"
    description = "ultralytics YOLOv3, YOLOv5 and 8.x: versions, device, arguments and data set, as printed before training"
    heads = (
        (rb"Using (?:torch \d|CUDA device|CPU\b|Apple)|\s+(?:device\d+ _Cuda|CUDA:\d+ \()", "device"),
        (rb"YOLOv[35]\s+(?:[^\w\s]{1,8}\s+)?(?:v?\d|torch)|Ultralytics (?:YOLOv?)?\d+\.\d", "device"),
        (rb"Namespace\(|train: \w+=|engine/trainer: ", "arguments"),
        (rb"(?:train: |val: |test: )?\s*Scanning ", "scanned"),
        (rb"Image sizes \d+ ", "image_size"),
        (rb"Using \d+ dataloader workers", "workers"),
        (rb"AMP: checks passed", "amp"),
        (rb"Starting training for \d+ epochs", "starting"),
        (rb"Resuming training ", "resuming"),
        (rb"AutoBatch: Using batch-size \d+", "auto_batch"),
        (rb"\s+from\s+n\s+params\s+module|\s*\d+\s+(?:-?\d+|\[[-\d, ]+\])\s+\d+\s+\d+\s+[\w.]+\.\w+\s+\[", "layers"),
        (
            rb"[Hh]yperparameters:? |[\w.-]+ ?[\w-]* [Ss]ummary(?: \(fused\))?: |Transferred \d+/|Optimizer (?:groups|stripped)|"
            rb"optimizer: |Overriding model\.yaml|Logging results to|Start Tensorboard|TensorBoard: |tensorboard: |Plotting labels|"
            rb"Freezing layer|"
            rb"AMP: |AutoAnchor: |Analyzing anchors|autoanchor: |albumentations: |Fusing layers|Closing dataloader mosaic|"
            rb"(?:train|val): (?:New cache|Caching|Fast image)|Results saved to|Speed: [\d.]+|wandb: |github: |"
            rb"Comet: |ClearML: |Learn more",
            "known",
        ),
    )
    beginnings = ("arguments",)

    arguments_seen = False
    scans = 0

    def device(self, line: bytes) -> Answer:
        after_end = self.run.trainer_done  # printed again before the last validation, or by the next run: its arguments follow
        if line.startswith(b"Using torch") and self.another(after_end):
            return Signal.NEXT_RUN
        version = _VERSION.match(line)
        if version:
            self.run.trainer_version = tuple(int(part) for part in version[1].split(b"."))
        for name, value in self._device(line).items():
            if after_end:
                self.run.pending[name] = value
            else:
                self.run.default(name, value)
        return True

    def _device(self, line: bytes) -> dict[str, object]:
        found: dict[str, object] = {}
        torch, python, device = _TORCH.search(line), _PYTHON.search(line), _DEVICE.search(line)
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
            found |= {"gpu_name": text(old[1]), "gpu_mem_bytes": size(old[2] + b"MiB")}
        elif device and device[0].startswith(b"CPU"):
            found["cpu_name"] = text(device[1])
        elif device:
            found["gpu_name"] = text(device[1])
            found["gpu_mem_bytes"] = size(device[2] + b"MiB") if device[2] else None
        return found

    def arguments(self, line: bytes) -> Answer:
        if self.another(self.arguments_seen and (self.run.trainer_done or self.run.epochs_seen)):
            return Signal.NEXT_RUN
        self.arguments_seen = self.run.trainer_started = True
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
            split = match[1] or (b"train" if self.scans == 0 else b"val")
            self.scans += 1
            self.run.default("train_images" if split == b"train" else "val_images", whole(text(match[3])))
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
            self.run.default("epochs", int(match[1]))
        return True

    def auto_batch(self, line: bytes) -> Answer:
        match = re.search(rb"batch-size (\d+)", line)
        if match:
            self.run.default("batch_size", int(match[1]))
        return True

    def layers(self, line: bytes) -> Answer:
        return _is_layer

    def known(self, line: bytes) -> Answer:
        """Lines that say nothing that is kept; other programs print some of them too."""
        return self.run.trainer_started


def _is_layer(line: bytes) -> bool:
    return re.match(rb"\s*\d+\s+(?:-?\d+|\[[-\d, ]+\])\s+\d+\s+\d+\s+[\w.]+\.\w+\s+\[", line) is not None
