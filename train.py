"""Train YOLOv3 or Tiny-YOLOv3: python train.py --img 416 --batch 8 --epochs 20 --data bccd.yaml --weights yolov3-tiny.weights"""

from yoloperf.yolo.train import main

if __name__ == "__main__":
    raise SystemExit(main())
