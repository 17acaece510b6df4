"""The training loop in this process, on a network of few weights."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.yolo.conftest import SMALL
from yoloperf.core.errors import UserError
from yoloperf.yolo.trainer import Trainer
from yoloperf.yolo.weights import load_weights, save_checkpoint

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


def test_a_checkpoint_that_cannot_be_resumed_says_what_to_do(make_trainer: MakeTrainer) -> None:
    one, other = make_trainer("run"), make_trainer("run", accumulate=2)
    one.run_epoch(lambda: None)
    one._save_last()
    with pytest.raises(UserError, match=r"other settings \(accumulate 1 -> 2\): choose another --save-dir, or delete it to begin anew$"):
        other.resume()
    for changed, message in (
        (make_trainer("run", optimizer="sgd"), r"\(optimizer 'adamw' -> 'sgd'\)"),
        (make_trainer("run", names=["square", "disc"]), r"\(names \['disc', 'square'\] -> \['square', 'disc'\]\)"),
        (make_trainer("run", cfg=SMALL.replace("30,30", "40,40")), r"\(cfg\)"),
    ):
        with pytest.raises(UserError, match=message):
            changed.resume()
    last = one.rundir.last_weights
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"^cannot resume, .*last\.pt is no whole checkpoint: delete it, and the training begins anew$"):
        one.resume()


def test_a_checkpoint_that_does_not_know_its_recipe_is_resumed(make_trainer: MakeTrainer) -> None:
    """As those were that an earlier version wrote."""
    one, other = make_trainer("run"), make_trainer("run")
    one.run_epoch(lambda: None)
    one._save_last()
    checkpoint = load_weights(one.rundir.last_weights)
    del checkpoint.training["recipe"]
    save_checkpoint(one.rundir.last_weights, checkpoint)
    other.resume()
    assert other.step == 3


def test_a_single_value_a_channel_is_too_little(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("run")
    one_cell = torch.zeros(1, 16, 16, 3, dtype=torch.uint8), torch.zeros(1, 1, 5)
    with pytest.raises(UserError, match="a batch of one image of 64 px is too little to train with: choose a larger --img"):
        trainer.train_step(one_cell)


def test_an_accumulated_step_takes_the_mean_gradient_of_its_batches(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three batches an epoch by two: the second step has one batch, whose gradient counts whole."""
    trainer = make_trainer("run", accumulate=2)
    batches = list(trainer.batches.epoch(1, mosaic=True))
    parameters = list(trainer.network.parameters())

    def gradient(number: int) -> list[Tensor]:
        pixels, targets = batches[number]
        images = pixels.permute(0, 3, 1, 2).float() / 255
        return list(torch.autograd.grad(trainer.loss(trainer.network(images), targets).total, parameters))

    trainer.network.train()
    each = [gradient(number) for number in range(3)]
    taken: list[list[Tensor]] = []

    def keep() -> None:
        taken.append([parameter.grad.clone() for parameter in parameters if parameter.grad is not None])

    monkeypatch.setattr(trainer.optimizer, "step", keep)  # the weights stay, so that every gradient is of the same ones
    trainer.run_epoch(lambda: None)
    wanted = [[(one + other) / 2 for one, other in zip(each[0], each[1], strict=True)], each[2]]
    assert len(taken) == 2
    for got, expected in zip(taken, wanted, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
