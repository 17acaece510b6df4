"""A bundle holds what it was made from, says what was changed in it, and harms nobody who checks it."""

import csv
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from yoloperf.cli import main
from yoloperf.core.errors import UserError
from yoloperf.core.record import EpochRecord, KernelRecord, RunRecord, from_csv, to_csv
from yoloperf.report.bundle import FORMAT_VERSION, bundle
from yoloperf.report.load import load
from yoloperf.report.verify import Verified, verify

PUBLISHED = Path(__file__).parents[2] / "logs" / "published-2020"
TIME = '\tCommand being timed: "python train.py --batch {batch} --epochs 1"\n\tUser time (seconds): {user}\n\tExit status: 0\n'

Change = Callable[[dict[str, bytes]], None]


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Single logs, a run folder with weights and a lock, a table without logs, a document, and what does not belong in a bundle."""
    top = tmp_path / "logs"
    run = top / "here" / "sweep" / "trial"
    (run / "weights").mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"status": "ok", "exit_code": 0, "spec": {"batch_size": 4, "epochs": 1}}))
    (run / "console.log").write_text(TIME.format(batch=4, user=20.5))
    (run / "weights" / "last.pt").write_bytes(b"PK\x03\x04" + bytes(1000))
    (run / "run.lock").write_text("")
    for batch in (8, 16, 32):
        (top / f"bs{batch}.txt").write_text(TIME.format(batch=batch, user=batch + 0.25))
    (top / "README.md").write_text("made on a rainy day\n")
    (top / "picture.png").write_bytes(b"\x89PNG\r\n")
    (top / "published").mkdir()
    (top / "published" / "runs.csv").write_bytes((PUBLISHED / "runs.csv").read_bytes())
    return top


@pytest.fixture
def made(logs: Path, tmp_path: Path) -> Path:
    bundle([logs], tmp_path / "bundle.zip")
    return tmp_path / "bundle.zip"


def changed(made: Path, change: Change, rehash: bool = False) -> Path:
    """The bundle with its files changed; `rehash` also mends the manifest, as somebody would who covers it up."""
    with zipfile.ZipFile(made) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    if rehash:
        manifest = json.loads(files["manifest.json"])
        manifest["files"] = {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            for name, data in files.items()
            if name != "manifest.json"
        }
        files["manifest.json"] = json.dumps(manifest).encode()
    path = made.with_name("changed.zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def test_what_is_in_it(made: Path) -> None:
    with zipfile.ZipFile(made) as archive:
        names = set(archive.namelist())
        manifest = json.loads(archive.read("manifest.json"))
        runs = list(csv.DictReader(io.StringIO(archive.read("derived/runs.csv").decode())))
    assert {name for name in names if name.startswith("logs/")} == {
        "logs/here/sweep/trial/run.json",
        "logs/here/sweep/trial/console.log",
        "logs/bs8.txt",
        "logs/bs16.txt",
        "logs/bs32.txt",
        "logs/README.md",
        "logs/published/runs.csv",
    }
    assert manifest["left_out"] == {"weights": 1, "weights_bytes": 1004, "links": 0}
    assert manifest["files"].keys() == names - {"manifest.json"}
    assert len(runs) == 68
    assert {run["run_id"] for run in runs} >= {"logs/bs8.txt", "here/sweep/trial"}  # no name of this machine's folders


def test_an_untouched_bundle_holds(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(made)]) == 0
    assert "every table and finding follows from the logs" in capsys.readouterr().out
    assert main(["verify", str(made), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True


def test_the_same_logs_give_the_same_bytes(logs: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in logs.rglob("*"):
        os.utime(path, (1e9, 1e9))
    monkeypatch.chdir(logs.parent)
    bundle([Path("logs")], tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == made.read_bytes()


def test_what_is_said(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "study.yaml").write_text("name: study\n")
    out = tmp_path / "x" / "bundle.zip"
    assert main(["bundle", str(logs), "--spec", str(tmp_path / "study.yaml"), "-o", str(out)]) == 0
    text = capsys.readouterr().out
    assert "68 runs" in text and "left out: 1 files of weights, 1004 B" in text
    assert f"sha256 {hashlib.sha256(out.read_bytes()).hexdigest()}" in text
    assert zipfile.ZipFile(out).read("specs/study.yaml") == b"name: study\n"


@pytest.fixture
def tables(tmp_path: Path, study: list[RunRecord], epochs: list[EpochRecord]) -> Path:
    """A folder with runs.csv and study.csv, each with epochs and kernels of its own."""
    folder = tmp_path / "tables"
    folder.mkdir()
    for name, lead in (("runs.csv", ""), ("study.csv", "study-")):
        (folder / name).write_text(to_csv(RunRecord, study))
        (folder / f"{lead}epochs.csv").write_text(to_csv(EpochRecord, epochs))
        (folder / f"{lead}kernels.csv").write_text(to_csv(KernelRecord, [KernelRecord(run_id=study[0].run_id, name="conv")]))
    return folder


@pytest.mark.parametrize("paths", [["tables/runs.csv"], ["tables/study.csv"], ["tables/runs.csv", "logs"], ["logs", "tables"]])
def test_a_table_comes_with_its_epochs_and_kernels_and_beside_logs(
    paths: list[str], logs: Path, tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = load([Path(path) for path in paths])
    made = bundle([Path(path) for path in paths], Path("bundle.zip"))
    with zipfile.ZipFile("bundle.zip") as archive:
        texts = {name: archive.read(f"derived/{name}.csv").decode() for name in ("runs", "epochs", "kernels")}
    assert made.runs == len(wanted.runs) == len(from_csv(RunRecord, texts["runs"]))
    found = {str(record.run_id) for record in from_csv(RunRecord, texts["runs"])}
    assert {name.replace("logs/", "") for name in found} == {str(record.run_id).replace("logs/", "") for record in wanted.runs}
    assert from_csv(EpochRecord, texts["epochs"]) == wanted.epochs
    assert len(from_csv(KernelRecord, texts["kernels"])) == len(wanted.kernels) == 1
    assert verify(Path("bundle.zip")).ok


def test_a_bundle_that_would_not_hold_every_run_is_refused(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same log at two places: two runs where each is read, one where both are."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "bs8.txt").write_bytes((logs / "bs8.txt").read_bytes())
    assert main(["bundle", str(logs), str(tmp_path / "more"), "-o", str(tmp_path / "b.zip")]) == 2
    assert "would hold 68 runs where `yoloperf table` on the same paths reads 69" in capsys.readouterr().err
    assert not (tmp_path / "b.zip").exists()


def test_links_out_of_the_folder_are_left_out_and_counted(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "outside.txt").write_text("secret\n")
    run = logs / "here" / "sweep" / "trial"
    (run / "note.txt").symlink_to(tmp_path / "outside.txt")
    (logs / "secret.md").symlink_to(tmp_path / "outside.txt")
    (run / "within.txt").symlink_to(logs / "README.md")
    assert main(["bundle", str(logs), "-o", str(tmp_path / "b.zip")]) == 0
    assert "left out: 2 links to files outside of what was given" in capsys.readouterr().out
    names = zipfile.ZipFile(tmp_path / "b.zip").namelist()
    assert "logs/here/sweep/trial/within.txt" in names
    assert not any(name.endswith(("note.txt", "secret.md")) for name in names)


def _set(name: str, data: bytes) -> Change:
    return lambda files: files.__setitem__(name, data)


def _drop(name: str) -> Change:
    return lambda files: files.__delitem__(name)


def _replace(name: str, old: bytes, new: bytes) -> Change:
    def change(files: dict[str, bytes]) -> None:
        assert old in files[name]
        files[name] = files[name].replace(old, new, 1)

    return change


def _rows(name: str, edit: Callable[[list[str]], list[str]]) -> Change:
    def change(files: dict[str, bytes]) -> None:
        files[name] = "\n".join(edit(files[name].decode().split("\n"))).encode()

    return change


def test_a_log_that_was_altered(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change = _replace("logs/bs8.txt", b"8.25", b"7.25")
    assert main(["verify", str(changed(made, change))]) == 1
    assert "altered: logs/bs8.txt was altered" in capsys.readouterr().out
    assert main(["verify", str(changed(made, change, rehash=True))]) == 1
    out = capsys.readouterr().out
    assert "differs: runs.csv: row" in out
    assert "(logs/bs8.txt), column user_s: bundled '8.25', from the logs '7.25'" in out


ALTERED: list[tuple[Change, bool, str]] = [
    (_drop("logs/bs8.txt"), False, "logs/bs8.txt is missing"),
    (_drop("logs/bs8.txt"), True, "runs.csv: 68 rows bundled, 67 follow from the logs"),
    (_set("logs/bs64.txt", b"x"), False, "logs/bs64.txt is in the bundle but not in its manifest"),
    (_set("logs/bs8.txt", b"x"), False, "logs/bs8.txt was altered: it is not"),
    (_drop("derived/findings.json"), True, "findings.json is missing"),
    (_set("derived/more.csv", b"a\n"), True, "more.csv is not a file that follows from the logs"),
    (
        _replace("derived/findings.json", b'"supported"', b'"mixed"'),
        True,
        "findings.json: [tiny-faster].verdict: bundled 'mixed', from the logs",
    ),
    (_replace("derived/table.md", b"| 8 |", b"| 9 |"), True, "table.md: line"),
    (_replace("derived/runs.csv", b"run_id,", b"run,"), True, "runs.csv: other columns: run, run_id"),
    (_rows("derived/runs.csv", lambda rows: [*rows[:3], "", *rows[4:]]), True, "runs.csv: row 3: 0 cells bundled"),
    (_rows("derived/runs.csv", lambda rows: [*rows[:3], rows[3].rpartition(",")[0], *rows[4:]]), True, "runs.csv: row 3: "),
    (_replace("derived/compare.json", b'"wins"', b'"won"'), True, "compare.json: "),
    (_set("derived/predict.json", b"{"), True, "predict.json: cannot be read"),
]


@pytest.mark.parametrize(("change", "rehash", "words"), ALTERED)
def test_what_was_altered_is_named(made: Path, change: Change, rehash: bool, words: str) -> None:
    result = verify(changed(made, change, rehash))
    assert not result.ok
    assert any(words in text for text in (*result.wrong, *result.differs)), (result.wrong, result.differs)


def test_last_digits_may_differ_and_no_more(made: Path) -> None:
    def shifted(factor: float) -> Verified:
        def change(files: dict[str, bytes]) -> None:
            name = "derived/runs.csv"
            files[name] = files[name].replace(b",20.5,", f",{20.5 * factor!r},".encode(), 1)

        return verify(changed(made, change, rehash=True))

    assert shifted(1 + 1e-12).ok
    assert not shifted(1 + 1e-6).ok


def test_a_bit_that_flipped(made: Path) -> None:
    data = bytearray(made.read_bytes())
    start = data.index(b"logs/bs8.txt") + len(b"logs/bs8.txt") + 5
    data[start] ^= 0x40
    path = made.with_name("flipped.zip")
    path.write_bytes(data)
    assert any("logs/bs8.txt" in text for text in verify(path).wrong)


def _edit(edit: Callable[[dict[str, Any]], Any]) -> Change:
    def change(files: dict[str, bytes]) -> None:
        manifest = json.loads(files["manifest.json"])
        edit(manifest)
        files["manifest.json"] = json.dumps(manifest).encode()

    return change


REFUSED: list[tuple[Change, str]] = [
    (_drop("manifest.json"), "no bundle"),
    (_set("manifest.json", b"[]"), "cannot be read"),
    (_set("manifest.json", b"["), "cannot be read"),
    (_set("manifest.json", b"[" * 100_000), "cannot be read"),
    (_set("manifest.json", b'{"files": {"a": {"bytes": 1}}}'), "no bundle"),
    (_edit(lambda manifest: manifest.update(format="tar")), "another kind"),
    (_edit(lambda manifest: manifest.update(format_version=FORMAT_VERSION + 1)), "update yoloperf"),
    (_edit(lambda manifest: manifest.update(schema_version=99, yoloperf="9.9")), "made by yoloperf 9.9"),
    (_set("../outside.txt", b"x"), "not safe"),
    (_set("/etc/outside.txt", b"x"), "not safe"),
    (_set("logs/../../outside.txt", b"x"), "not safe"),
    (_set("logs\\..\\outside.txt", b"x"), "not safe"),
    (_set("C:/outside.txt", b"x"), "not safe"),
    (_edit(lambda manifest: manifest["files"]["logs/bs8.txt"].update(bytes=1 << 50)), "more than 8.00 GiB"),
    (_edit(lambda manifest: manifest["files"]["logs/bs8.txt"].update(bytes=-1)), "another kind"),
    (_set("logs/bs8.txt/inner.txt", b"x"), "both a file and a folder"),
]


@pytest.mark.parametrize(("change", "words"), REFUSED)
def test_what_is_no_bundle_or_harmful_is_refused_in_a_line(
    made: Path, change: Change, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path for path in made.parent.parent.rglob("*") if path.name.startswith("outside")}
    assert main(["verify", str(changed(made, change))]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
    assert {path for path in made.parent.parent.rglob("*") if path.name.startswith("outside")} == before


def test_an_entry_that_swells_is_stopped(made: Path) -> None:
    """A file that unpacks to far more than the manifest says is read no further than that."""
    result = verify(changed(made, _set("logs/bs8.txt", bytes(300 << 20))))
    assert any("logs/bs8.txt was altered: it is not" in text for text in result.wrong)


def test_links_are_refused(made: Path) -> None:
    path = made.with_name("link.zip")
    path.write_bytes(made.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        entry = zipfile.ZipInfo("logs/link")
        entry.create_system, entry.external_attr = 3, 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(UserError, match="no plain file"):
        verify(path)


@pytest.mark.parametrize(("content", "words"), [(b"", "no readable zip"), (b"PK\x03\x04 and so on", "no readable zip")])
def test_no_zip(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "bundle.zip"
    with pytest.raises(UserError, match="does not exist"):
        verify(path)
    path.write_bytes(content)
    with pytest.raises(UserError, match=words):
        verify(path)


def test_nothing_to_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["bundle", str(tmp_path / "empty"), "-o", str(tmp_path / "b.zip")]) == 2
    assert main(["bundle", str(PUBLISHED), "--spec", "nowhere.yaml", "-o", str(tmp_path / "b.zip")]) == 2
    assert capsys.readouterr().err.count("\n") == 2
    assert not (tmp_path / "b.zip").exists()


def test_a_platform_card_of_the_working_folder_travels(logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures that rest on a card of one's own hold on a machine that does not have it."""
    folder = tmp_path / "mine" / "cfg" / "platforms"
    folder.mkdir(parents=True)
    (folder / "t4.yaml").write_text("name: My T4\nkind: gpu\nmatch: [T4]\n")
    monkeypatch.chdir(tmp_path / "mine")
    bundle([logs], tmp_path / "bundle.zip")
    monkeypatch.chdir(tmp_path)
    assert zipfile.ZipFile("bundle.zip").read("cfg/platforms/t4.yaml").startswith(b"name: My T4")
    assert verify(Path("bundle.zip")).ok


def test_line_ends_of_a_log_are_kept(tmp_path: Path) -> None:
    """A carriage return in a cell is the same cell when it is read again."""
    run = tmp_path / "logs" / "here" / "sweep" / "trial"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"status": "failed", "reason": "one\rtwo\r\nthree", "spec": {"batch_size": 4}}))
    (run / "console.log").write_text("")
    assert bundle([tmp_path / "logs"], tmp_path / "bundle.zip").runs == 1
    assert verify(tmp_path / "bundle.zip").ok


@pytest.mark.parametrize("word", ["nan", "0", "much", "inf"])
def test_a_limit_that_is_none_is_refused(made: Path, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["verify", str(made), "--max-gib", word])
    assert "must be a number of GiB" in capsys.readouterr().err
