"""What a training starts with: the network, and as much of it as given weights know."""

import torch

from yoloperf.core.spec import TrialSpec
from yoloperf.datasets.config import DataConfig
from yoloperf.yolo.cfg import load_cfg, same_network, with_classes
from yoloperf.yolo.darknet import Darknet
from yoloperf.yolo.weights import find_weights, load_weights, transfer, transfer_heads


def starting_network(spec: TrialSpec, config: DataConfig) -> tuple[Darknet, str]:
    """The network with the data set's classes, and a note on where its weights come from."""
    torch.manual_seed(spec.seed)
    classes = len(config.names)
    if not spec.weights:
        network = Darknet(with_classes(load_cfg(spec.cfg), classes))
        return network, "from scratch"
    path = find_weights(spec.weights)
    checkpoint = load_weights(path, spec.cfg, to_start=True)
    other = bool(spec.cfg) and not same_network(load_cfg(spec.cfg), checkpoint.cfg)
    known = checkpoint.class_names()
    # a joined data set, or one that tells the same classes in another order: what was learned about each stays its own
    extends = known != list(config.names) and set(known) <= set(config.names) and not other and checkpoint.whole
    network = Darknet(with_classes(load_cfg(spec.cfg) if other else checkpoint.cfg, classes, keep_decoding=extends))
    copied, total = transfer(checkpoint.state, network)
    note = f"transferred {copied}/{total} items from {path.name}" + (f", which is another network than {spec.cfg}" if other else "")
    if extends:
        transfer_heads(checkpoint, network, config.names)
        note += f", and the heads' {len(known)} classes"
    return network, note
