"""Darknet .cfg text: its sections, the keys that may stand in them, and the same text with another number of classes."""

from dataclasses import dataclass
from pathlib import Path

from yoloperf.core.errors import UserError, choose

CFG_FOLDER = Path(__file__).resolve().parents[2] / "cfg"

# What a layer's section may say, by Darknet's parser (parser.c, AlexeyAB's included). [net] is not here: of its keys only
# `channels` changes the network, the others are the training's.
_READ = {
    "convolutional": {"batch_normalize", "filters", "size", "stride", "pad", "padding", "activation"},
    "maxpool": {"size", "stride"},
    "upsample": {"stride"},
    "route": {"layers"},
    "shortcut": {"from"},
    "yolo": {"mask", "anchors", "classes", "num", "new_coords"},
}
# These change nothing about the network once it is trained.
_OF_TRAINING = {
    *("learning_rate", "stopbackward", "dontload", "dontloadscales", "burnin_update", "dont_update", "train_only_bn"),
    *("jitter", "resize", "random", "ignore_thresh", "truth_thresh", "iou_thresh", "iou_thresh_kind", "iou_loss", "iou_normalizer"),
    *("obj_normalizer", "cls_normalizer", "delta_normalizer", "max_delta", "focal_loss", "label_smooth_eps", "objectness_smooth"),
    *("counters_per_class", "show_details", "max", "nms_kind", "beta_nms"),
}
# These do change it, and this is the value with which they do not.
_NEUTRAL = {
    "convolutional": {"groups": "1", "dilation": "1", "antialiasing": "0", "binary": "0", "xnor": "0", "flipped": "0"},
    "maxpool": {"antialiasing": "0", "maxpool_depth": "0"},
    "upsample": {"scale": "1"},
    "route": {"groups": "1", "group_id": "0"},
    "shortcut": {"activation": "linear", "weights_type": "none", "weights_normalization": "none"},
    "yolo": {"scale_x_y": "1"},
}


@dataclass(frozen=True)
class Section:
    """One [kind] block of a .cfg with its key=value lines."""

    kind: str
    values: dict[str, str]

    def integer(self, key: str, default: int | None = None) -> int:
        text = self.values.get(key)
        if text is None:
            if default is None:
                raise UserError(f"cfg: [{self.kind}] has no {key}=")
            return default
        try:
            return int(text)
        except ValueError:
            raise UserError(f"cfg: [{self.kind}] {key}={text} is no whole number") from None

    def numbers(self, key: str) -> list[float]:
        try:
            return [float(part) for part in self.values[key].split(",")]
        except (KeyError, ValueError):
            raise UserError(f"cfg: [{self.kind}] needs {key}= with numbers separated by commas") from None


def check_keys(section: Section) -> None:
    """Raises UserError where a layer's section says what this network would not do: it would be another one, silently."""
    if section.kind not in _READ:
        raise UserError(f"cfg: no support for [{section.kind}]; use the layers of yolov3.cfg and yolov3-tiny.cfg")
    for key, value in section.values.items():
        if key in _READ[section.kind] or key in _OF_TRAINING:
            continue
        neutral = _NEUTRAL[section.kind].get(key)
        if key == "scale_x_y" and section.integer("new_coords", 0):
            neutral = "2"  # of scale_x_y: b_x = 2 sigmoid(t_x) - 0.5 is what new_coords means here
        if section.kind == "maxpool" and key == "padding":
            neutral = str(section.integer("size") - 1)
        if neutral is None:
            raise UserError(f"cfg: no support for {key}= in [{section.kind}]: take the line out if it concerns only Darknet's training")
        if not _alike(value, neutral):
            raise UserError(f"cfg: no support for {key}={value} in [{section.kind}], only for {key}={neutral}: use yolov3 or yolov3-tiny")


def _alike(value: str, neutral: str) -> bool:
    try:
        return float(value) == float(neutral)
    except ValueError:
        return value == neutral


def parse_cfg(text: str) -> list[Section]:
    """Sections of a Darknet .cfg. Raises UserError with the line that cannot be read."""
    sections: list[Section] = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("#")[0].strip()
        if not line or line.startswith(";"):  # both begin a comment in Darknet
            continue
        if line.startswith("[") and line.endswith("]"):
            sections.append(Section(line[1:-1].strip(), {}))
        elif "=" in line and sections:
            key, value = (part.strip() for part in line.split("=", 1))
            sections[-1].values[key] = value
        else:
            raise UserError(f"cfg line {number} is neither [section] nor key=value: {line!r}")
    if not sections or sections[0].kind not in ("net", "network"):
        raise UserError("cfg does not begin with a [net] section")
    return sections


def cfg_text(sections: list[Section]) -> str:
    return "\n".join(
        "\n".join([f"[{section.kind}]", *(f"{key}={value}" for key, value in section.values.items()), ""]) for section in sections
    )


def load_cfg(name: str) -> str:
    """Text of a .cfg by path or by its name in cfg/. Raises UserError with the names there are, or where it may not be read."""
    path = Path(name)
    if path.is_file():
        try:
            return path.read_text("utf-8-sig", "replace")  # whatever its comments are written in
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error
    if path.parent != Path():
        raise UserError(f"no cfg file {name}; give a path, or one of {', '.join(known_cfgs())}")
    stem = choose(path.stem, known_cfgs(), "cfg")
    return (CFG_FOLDER / f"{stem}.cfg").read_text()


def known_cfgs() -> list[str]:
    return sorted(path.stem for path in CFG_FOLDER.glob("*.cfg"))


def head_filters(yolo: Section) -> int:
    """Filters of the convolution before a [yolo] section."""
    return len(yolo.numbers("mask")) * (5 + yolo.integer("classes"))


def same_network(one: str, other: str) -> bool:
    """Whether two cfgs have the same layers and anchors, so that weights of one are those of the other, the heads' classes aside."""
    return _layers(one) == _layers(other)


def _layers(text: str) -> list[tuple[str, dict[str, str]]]:
    sections = parse_cfg(text)[1:]
    layers = []
    for section, after in zip(sections, [*sections[1:], None], strict=True):
        unlike = {"filters"} if after and after.kind == "yolo" else {"classes", "new_coords", "num"} if section.kind == "yolo" else set()
        keys = _READ.get(section.kind, set()) - unlike
        layers.append((section.kind, {key: "".join(value.split()) for key, value in section.values.items() if key in keys}))
    return layers


def with_classes(text: str, classes: int, keep_decoding: bool = False) -> str:
    """The cfg with heads for another number of classes.

    The heads' last convolutions get their filter count, and `new_coords=1` unless `keep_decoding`: where their weights start
    afresh, they may as well use the bounded box decoding that trains better (docs/decisions.md); heads that keep their weights
    keep their decoding.
    """
    sections = parse_cfg(text)
    for index, section in enumerate(sections):
        if section.kind == "yolo" and section.integer("classes") != classes:
            section.values["classes"] = str(classes)
            if not keep_decoding:
                section.values["new_coords"] = "1"
                section.values.pop("scale_x_y", None)  # of the decoding that it had
            if sections[index - 1].kind == "convolutional":
                sections[index - 1].values["filters"] = str(head_filters(section))
    return cfg_text(sections)
