"""The container files without a container: linted, made of files that are there, installed as `make` installs, and not run by root."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import pytest

from tests.conftest import missing
from yoloperf.cli import load, parser_for

ROOT = Path(__file__).parents[1]
DOCKERFILE, APPTAINER = ROOT / "deploy" / "Dockerfile", ROOT / "slurm" / "apptainer.def"
AT_RUN_TIME = ("train.py", "detect.py", "LICENSE", "cfg", "data", "sweeps", "yoloperf")  # what a container needs of the tree
SECTIONS = {"arguments", "files", "post", "environment", "runscript", "test", "labels", "help"}


def stages() -> dict[str, list[tuple[str, str]]]:
    """Stage of the Dockerfile -> its instructions; what precedes the first stage is under ''."""
    text = "\n".join(line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#"))
    found: dict[str, list[tuple[str, str]]] = {"": []}
    for line in filter(str.strip, re.sub(r"\\\n\s*", "", text).splitlines()):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found[rest.split(" AS ")[1]] = []
        list(found.values())[-1].append((word, rest))
    return found


def sections() -> dict[str, list[str]]:
    """Section of the Apptainer definition -> its lines; the header is under ''."""
    found: dict[str, list[str]] = {"": []}
    for line in APPTAINER.read_text().splitlines():
        if line.startswith("%"):
            found[line[1:]] = []
        elif line.strip() and not line.lstrip().startswith("#"):
            list(found.values())[-1].append(line.strip())
    return found


def copied(instructions: list[tuple[str, str]]) -> list[str]:
    """Sources in the build context."""
    return [source for word, rest in instructions if word == "COPY" and "--from" not in rest for source in rest.split()[:-1]]


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path, or a folder above it, out of the build context."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    parts = [PurePosixPath(path), *PurePosixPath(path).parents][:-1]
    anywhere = [pattern.removeprefix("**/") for pattern in patterns if pattern.startswith("**/")]
    return any(fnmatch(str(part), pattern) for part in parts for pattern in patterns) or any(
        fnmatch(part.name, pattern) for part in parts for pattern in anywhere
    )


def installs(folder: Path, sources: list[str]) -> list[str]:
    """The pip commands of `make setup` in a folder that holds only these files of the tree."""
    for source in sources:
        there = folder / source
        there.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, there, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, there)
    done = subprocess.run(["make", "--dry-run", "setup"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    version = project["tool"]["setuptools"]["dynamic"]["version"]["attr"].rpartition(".")[0]
    assert (folder / project["project"]["readme"]).is_file() and (folder / version / "__init__.py").is_file()
    return [line for line in done.stdout.splitlines() if "pip install" in line]


def test_dockerfile_is_linted() -> None:
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if program is None:
        missing("no hadolint: pip install -r requirements.txt")
    done = subprocess.run([str(program), "--failure-threshold", "style", str(DOCKERFILE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_dockerfile_copies_what_is_there() -> None:
    for name, instructions in stages().items():
        for source in copied(instructions):
            assert (ROOT / source).exists() and not ignored(source), f"{name}: {source}"
        for _, rest in (item for item in instructions if item[0] == "COPY" and "--from=" in item[1]):
            assert rest.removeprefix("--from=").split()[0] in stages(), rest
    assert "." in copied(stages()["train"])
    assert [path for path in AT_RUN_TIME if ignored(path)] == []
    for path in (".git", ".venv/bin/python", "datasets/bccd", "runs/train/exp/weights/best.pt", "yoloperf/core/__pycache__"):
        assert ignored(path), path


def test_dockerfile_installs_as_make_does(tmp_path: Path) -> None:
    commands = [rest for word, rest in stages()["build"] if word == "RUN"]
    assert "make setup" in commands[-1] and not any("pip install" in rest for part in stages().values() for _, rest in part)
    assert any("-r requirements.txt" in line for line in installs(tmp_path, copied(stages()["build"])))


def test_containers_have_gnu_time_and_no_address() -> None:
    assert re.search(r"apt-get install [^&]*\btime\b", dict(stages()["train"])["RUN"])
    assert re.search(r"apt-get install .*\btime\b", "\n".join(sections()["post"]))
    for path in (DOCKERFILE, APPTAINER):
        assert "://" not in path.read_text(), "where packages come from is for pip's own settings to say"


def test_docker_image_is_not_run_by_root() -> None:
    (user,) = (rest for word, rest in stages()["train"] if word == "USER")
    assert int(user) > 0
    assert stages()["train"].index(("USER", user)) > max(k for k, (word, _) in enumerate(stages()["train"]) if word in ("RUN", "COPY"))


def test_apptainer_definition_copies_and_installs(tmp_path: Path) -> None:
    parts = sections()
    assert parts.keys() - {""} == SECTIONS
    assert parts[""] == ["Bootstrap: docker", f"From: {dict(stages()[''])['ARG'].partition('=')[2]}"]
    pairs = [line.split() for line in parts["files"]]
    assert all(target == f"/opt/yoloperf/{source}" for source, target in pairs)
    sources = [source for source, _ in pairs]
    assert set(AT_RUN_TIME) <= set(sources) and all((ROOT / source).exists() for source in sources)
    assert "make setup" in parts["post"] and not any("pip install" in line for line in parts["post"])
    assert installs(tmp_path / "apptainer", sources) == installs(tmp_path / "docker", copied(stages()["build"]))
    defaults = {line.partition("=")[0] for line in parts["arguments"]}
    assert set(re.findall(r"{{ (\w+) }}", APPTAINER.read_text())) == defaults
    for name in ("post", "environment", "runscript", "test"):
        subprocess.run(["sh", "-n"], input="\n".join(parts[name]), text=True, check=True)


@pytest.mark.parametrize("path", [DOCKERFILE, APPTAINER], ids=["docker", "apptainer"])
def test_commands_in_the_head_are_understood(path: Path) -> None:
    """The sweep that the comment shows, and the target that it builds."""
    text = path.read_text()
    (flags,) = re.findall(r"^#.*(?:yoloperf:train|yoloperf.sif) sweep (.*)$", text, re.MULTILINE)
    args = parser_for("sweep", load("sweep")).parse_args(shlex.split(flags))
    assert (ROOT / args.file).is_file()
    assert set(re.findall(r"--target (\w+)", text)) <= stages().keys()
