import stat
import zipfile
from pathlib import Path

import pytest

from yoloperf.core.errors import UserError
from yoloperf.datasets.unpack import manifest_hash, unpack, wanted_members


def packed(tmp_path: Path, files: dict[str, bytes], **attributes: int) -> zipfile.ZipFile:
    path = tmp_path / "some.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = attributes.get("mode", 0o644) << 16
            archive.writestr(info, content)
    return zipfile.ZipFile(path)


def test_only_what_is_wanted_is_unpacked_to_its_place(tmp_path: Path) -> None:
    files = {"top/in/a.jpg": b"a", "top/in/deep/b.jpg": b"b", "top/in/.DS_Store": b"x", "top/out/c.jpg": b"c", "top/LICENSE": b"free"}
    with packed(tmp_path, files) as archive:
        wanted = wanted_members(archive, {"top/in/": "images/", "top/LICENSE": "LICENSE"})
        unpack(archive, wanted, tmp_path / "out")
    found = {path.relative_to(tmp_path / "out").as_posix(): path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {"images/a.jpg": b"a", "images/deep/b.jpg": b"b", "LICENSE": b"free"}


@pytest.mark.parametrize("name", ["/etc/passwd", "in/../../out", "../out", "in\\..\\out", "C:/out"])
def test_a_path_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    with packed(tmp_path, {"in/a.jpg": b"a", name: b"bad"}) as archive, pytest.raises(UserError, match="not safe to unpack"):
        wanted_members(archive, {"in/": ""})


@pytest.mark.parametrize("mode", [stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o644])
def test_links_and_special_files_are_refused(tmp_path: Path, mode: int) -> None:
    with packed(tmp_path, {"in/a.jpg": b"/etc/passwd"}, mode=mode) as archive, pytest.raises(UserError, match="link or a special file"):
        wanted_members(archive, {"in/": ""})


def test_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    with packed(tmp_path, {"in/a.jpg": bytes(10_000_000)}) as archive, pytest.raises(UserError, match="10000000"):
        wanted_members(archive, {"in/": ""})


def test_an_archive_of_something_else_is_named(tmp_path: Path) -> None:
    with packed(tmp_path, {"other/a.jpg": b"a"}) as archive, pytest.raises(UserError, match="holds none of in/"):
        wanted_members(archive, {"in/": ""})


def test_damaged_content_is_named(tmp_path: Path) -> None:
    packed(tmp_path, {"in/a.jpg": bytes(range(256)) * 20}).close()
    path = tmp_path / "some.zip"
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF
    path.write_bytes(content)
    with zipfile.ZipFile(path) as archive, pytest.raises(UserError, match="damaged at in/a.jpg"):
        unpack(archive, wanted_members(archive, {"in/": ""}), tmp_path / "out")


def test_the_manifest_tells_content_and_names_and_passes_over_hidden_files(tmp_path: Path) -> None:
    def made(name: str, files: dict[str, str]) -> str:
        for place, text in files.items():
            (tmp_path / name / place).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / place).write_text(text)
        return manifest_hash(tmp_path / name)

    base = made("a", {"x/1": "one", "y/z/2": "two"})
    assert made("b", {"y/z/2": "two", "x/1": "one", ".cache/3": "3", "x/.DS_Store": "4", "top": "5"}) == base
    assert made("c", {"x/1": "one", "y/z/2": "too"}) != base != made("d", {"x/1": "one", "y/z/3": "two"})
