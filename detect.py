"""Find objects in images: python detect.py --weights best.pt --source FOLDER --save-dir out"""

from yoloperf.yolo.detect import main

if __name__ == "__main__":
    raise SystemExit(main())
