"""What trainers print before the first epoch, where a file holds several runs or one that was resumed."""

from collections.abc import Callable

import pytest

from yoloperf.parsing.parse import ParseResult

Read = Callable[..., ParseResult]
ON_GPU = "Ultralytics 8.4.1 🚀 Python-3.11.7 torch-2.6.0+cu118 CUDA:0 (Tesla T4, 15102MiB)\n"
ON_CPU = "Ultralytics 8.2.0 🚀 Python-3.9.1 torch-2.1.0 CPU (Intel Xeon)\n"
ARGUMENTS = "engine/trainer: task=detect, model=yolov8n.pt, data=blood.yaml, epochs=1, batch=16, imgsz=640, seed=0\n"
SUMMARY = "YOLOv8n summary: 225 layers, 3157200 parameters, 3157184 gradients, 8.9 GFLOPs\n"
IMAGES = "train: Scanning /d/labels/train... 1280 images, 0 backgrounds, 0 corrupt: 100%|x| 1280/1280 [00:00<00:00]\n"
EPOCH = (
    "      Epoch    GPU_mem   box_loss   cls_loss   dfl_loss  Instances       Size\n"
    "        1/1      2.5G      1.1      1.1      1.1        217        640: 100%|x| 8/8 [00:08<00:00,  3.00it/s]\n"
)
DONE = "1 epochs completed in 0.1 hours.\n"
BLOCK = '\tCommand being timed: "python train.py"\n\tExit status: 0\n'


@pytest.mark.parametrize("end", ["", DONE, DONE + ON_GPU, DONE + ON_GPU + BLOCK], ids=["killed", "done", "validated again", "timed"])
@pytest.mark.parametrize("swapped", [False, True], ids=["GPU first", "CPU first"])
def test_every_run_of_a_file_has_its_own_banner(read: Read, end: str, swapped: bool) -> None:
    banners = [ON_GPU, ON_CPU]
    gpu = ("Tesla T4", None, "2.6.0+cu118", "11.8", "3.11.7", round(2.5 * 2**30))
    cpu = (None, "Intel Xeon", "2.1.0", None, "3.9.1", 2_500_000_000)
    expected = [gpu, cpu]
    if swapped:
        banners, expected, end = banners[::-1], expected[::-1], end.replace(ON_GPU, ON_CPU)
    result = read(banners[0] + ARGUMENTS + SUMMARY + EPOCH + end + banners[1] + ARGUMENTS + SUMMARY + EPOCH + DONE)
    found = [(run.gpu_name, run.cpu_name, run.torch, run.cuda, run.python, run.gpu_mem_peak_bytes) for run in result.runs]
    assert found == expected
    assert [run.flops_per_image for run in result.runs] == [26.7e9, 26.7e9]


def test_a_log_without_its_head_does_not_say_how_large_a_gigabyte_is(read: Read) -> None:
    (run,) = read(EPOCH + DONE).runs
    assert (run.box_loss, run.gpu_mem_peak_bytes) == (1.1, None)


@pytest.mark.parametrize("gpus", [1, 4])
def test_several_gpus_share_the_work(read: Read, gpus: int) -> None:
    more = "".join(f"                              CUDA:{number} (Tesla T4, 15102MiB)\n" for number in range(1, gpus))
    (run,) = read(ON_GPU + more + ARGUMENTS + SUMMARY + "AMP: checks passed\n" + IMAGES + EPOCH + DONE).runs
    assert (run.processes, run.images_per_s, run.torch) == (gpus, 160.0, "2.6.0+cu118")
    assert run.mfu == pytest.approx(26.7e9 * 160 / (gpus * 65e12))


def test_a_resumed_yolov5_run_does_not_train_with_the_defaults_that_it_prints(read: Read) -> None:
    head = "train: weights=yolov5s.pt, data=data/coco128.yaml, epochs=300, batch_size=16, imgsz=640, resume=last.pt, seed=0\n"
    head += "YOLOv5 🚀 v7.0-72-g064365d Python-3.9.15 torch-1.11.0+cu113 CUDA:0 (Tesla V100-SXM2-32GB, 32501MiB)\n"
    (fresh,) = read(head + "Starting training for 300 epochs...\n").runs
    assert (fresh.batch_size, fresh.epochs, fresh.model, fresh.weights, fresh.dataset) == (16, 300, "yolov5s", "yolov5s.pt", "coco128")
    resuming = "Resuming training from last.pt from epoch 3 to 5 total epochs\nStarting training for 5 epochs...\n"
    (run,) = read(head + resuming).runs
    assert (run.batch_size, run.epochs, run.model, run.weights, run.dataset) == (None, 5, None, None, None)


def test_an_empty_flag_does_not_take_the_next_one_for_its_value(read: Read) -> None:
    (run,) = read(BLOCK.replace("train.py", "train.py --weights  --cfg yolov5s.yaml --epochs 3")).runs
    assert (run.weights, run.model, run.epochs) == (None, "yolov5s", 3)
