"""What a device can do at most, and the part of it that trainings of YOLOv3 have reached: a time before anything has run."""

from yoloperf.core.platforms import PlatformCard

# share of the tensor cores' peak that published YOLOv3 trainings reached: Tiny at 640 px on a V100 6.5 %, the full network 25.6 %
# (rates in the READMEs of ultralytics/yolov3 of 2020 and of its release v9.5.0, divided by the data sheet's peak)
EFFICIENCY = (0.06, 0.26)
# forward FLOP of one image at 416 px, 2 a multiply-add, and parameters, of the published cfg files with 80 classes
MODELS = {"yolov3": (65.86e9, 61.95e6), "yolov3-tiny": (5.56e9, 8.85e6), "yolov3-spp": (66.22e9, 63.00e6)}
_TRAINING = 3  # a training step costs three forward passes: one forward, two in the backward pass


def fastest_arithmetic(card: PlatformCard) -> str:
    """The arithmetic that training chooses on a device unless told otherwise (see yolo/device.py)."""
    capability = _capability(card)
    return "bf16" if capability >= (8, 0) else "fp16" if capability >= (7, 0) else "fp32"


def work(model: str, img_size: int, train_images: int, val_images: int = 0) -> float | None:
    """FLOP of the convolutions in one epoch and its validation; None for a model that is not known."""
    if model not in MODELS:
        return None
    return MODELS[model][0] * (img_size / 416) ** 2 * (_TRAINING * train_images + val_images)


def time_range(flop: float, card: PlatformCard, arithmetic: str, devices: int = 1) -> tuple[float, float] | None:
    """Shortest and longest time in s of so much work, without start-up.

    None where the card has no such peak, and where that is not of tensor cores: EFFICIENCY holds for no others.
    """
    peak = card.peak(arithmetic)
    if not peak or not _on_tensor_cores(card, arithmetic):
        return None
    return flop / (peak * devices * EFFICIENCY[1]), flop / (peak * devices * EFFICIENCY[0])


def _on_tensor_cores(card: PlatformCard, arithmetic: str) -> bool:
    if arithmetic == "fp32":
        return card.peak_flops["tf32"] is not None
    return card.kind == "gpu" and _capability(card) >= (7, 0)


def _capability(card: PlatformCard) -> tuple[int, ...]:
    return tuple(int(part) for part in (card.compute_capability or "0.0").split("."))


def said(card: PlatformCard, arithmetic: str) -> str:
    """What a time_range rests on."""
    low, high = (f"{100 * share:.0f}" for share in EFFICIENCY)
    return f"{low} to {high} % of the {(card.peak(arithmetic) or 0) / 1e12:.3g} TFLOP/s of card {card.name} in {arithmetic}"
