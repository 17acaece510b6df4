"""Train YOLOv3 or Tiny-YOLOv3: python train.py --img 416 --batch 8 --epochs 20 --data bccd.yaml --weights yolov3-tiny.weights"""

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while PyTorch is imported ends it without a traceback
    from yoloperf.yolo.train import main

    raise SystemExit(main())
