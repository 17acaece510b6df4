"""The training loop in this process, on a network of few weights."""

from collections.abc import Callable

import torch

from yoloperf.yolo.trainer import Trainer

MakeTrainer = Callable[..., Trainer]


def test_a_checkpoint_without_loss_scaling_is_resumed_with_it(make_trainer: MakeTrainer) -> None:
    """As where `--precision auto` is bf16 on one GPU and fp16 on the next."""
    one, other = make_trainer("run", "bf16"), make_trainer("run", "fp16")
    one.run_epoch(lambda: None)
    one._save_last()
    other.resume()
    assert (other.step, other.scaler.get_scale()) == (3, 2.0**16)
    for name, tensor in one.network.state_dict().items():
        assert torch.equal(tensor, other.network.state_dict()[name]), name
