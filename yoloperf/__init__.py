"""yoloperf: train YOLOv3 on any GPU platform, profile every run, compare what came out."""

__version__ = "0.1.0"
