"""What `yoloperf data fetch` knows: addresses, sizes and checksums.

Sizes and checksums are the ones that several unrelated public repositories give for the publishers' files.
"""

from dataclasses import dataclass, field

COCO = "http://images.cocodataset.org"
DARKNET = "https://pjreddie.com/media/files"
BCCD_COMMIT = "d272fb14cdff6e473fafeeeba32aba5f560e9e43"


@dataclass(frozen=True)
class Piece:
    """One file to download.

    target: where it ends up, below the data folder or, without members, the weights folder. members: for a zip,
    prefix of the archive's names -> what takes its place below target; all other names are left in the archive.
    manifest: hash of the unpacked files (see unpack.manifest_hash), for an archive that is not byte-stable.
    """

    url: str
    target: str
    size_bytes: int | None = None
    sha256: str | None = None
    members: dict[str, str] = field(default_factory=dict)
    manifest: str | None = None

    @property
    def name(self) -> str:
        """File name, also the one looked for at a mirror."""
        return self.url.rpartition("/")[2]


_COCO_VAL = (
    Piece(
        f"{COCO}/zips/val2017.zip",
        "coco/images/val2017",
        815_585_330,
        "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
        {"val2017/": ""},
    ),
    Piece(
        f"{COCO}/annotations/annotations_trainval2017.zip",
        "coco/annotations",
        252_907_541,
        "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
        {"annotations/instances_": "instances_"},
    ),
)

SOURCES: dict[str, tuple[Piece, ...]] = {
    "bccd": (
        # GitHub packs its archives anew, so that only the files inside have a lasting checksum
        Piece(
            f"https://github.com/Shenggan/BCCD_Dataset/archive/{BCCD_COMMIT}.zip",
            "bccd",
            members={
                **{f"BCCD_Dataset-{BCCD_COMMIT}/BCCD/{part}/": f"{part}/" for part in ("JPEGImages", "Annotations", "ImageSets/Main")},
                f"BCCD_Dataset-{BCCD_COMMIT}/LICENSE": "LICENSE",
            },
            manifest="debd2d76b13c300a3999f96a08cbe9ada5f231c3f882f9877a65a01a695872d1",
        ),
    ),
    "coco": (
        Piece(
            f"{COCO}/zips/train2017.zip",
            "coco/images/train2017",
            19_336_861_798,
            "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
            {"train2017/": ""},
        ),
        *_COCO_VAL,
    ),
    "coco-val": _COCO_VAL,
    "yolov3.weights": (
        Piece(
            f"{DARKNET}/yolov3.weights",
            "yolov3.weights",
            248_007_048,
            "523e4e69e1d015393a1b0a441cef1d9c7659e3eb2d7e15f793f060a21b32f297",
        ),
    ),
    "yolov3-tiny.weights": (
        Piece(
            f"{DARKNET}/yolov3-tiny.weights",
            "yolov3-tiny.weights",
            35_434_956,
            "dccea06f59b781ec1234ddf8d1e94b9519a97f4245748a7d4db75d5b7080a42c",
        ),
    ),
    # no independent checksum of this one is known: its size is checked
    "darknet53.conv.74": (Piece(f"{DARKNET}/darknet53.conv.74", "darknet53.conv.74", 162_482_580),),
}
