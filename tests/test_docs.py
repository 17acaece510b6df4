"""Every command that the documents show exists, and every link in them leads somewhere."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from yoloperf.cli import VERBS, load, parser_for
from yoloperf.yolo import detect, train

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path for path in ROOT.glob("**/*.md") if not any(part.startswith(".") or part == "out" for part in path.relative_to(ROOT).parts)
)
FENCE = re.compile(r"^```(?:bash|sh|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")

COMMANDS = sorted(
    {
        (path.relative_to(ROOT).as_posix(), line.split("#")[0].removeprefix("$ ").strip())
        for path in DOCUMENTS
        for block in FENCE.findall(path.read_text())
        for line in block.replace("\\\n", " ").splitlines()
        if line.split("#")[0].strip()
    }
)


def test_readme_begins_with_a_sentence_and_its_first_command() -> None:
    text = (ROOT / "README.md").read_text()
    assert FENCE.findall(text)[0].strip().splitlines()[0].startswith("make demo")


@pytest.mark.parametrize(("document", "command"), COMMANDS)
def test_command_is_understood(document: str, command: str) -> None:
    """Its target, script or verb exists and takes these flags; what it does is tested in its own room."""
    words = shlex.split(re.split(r"\s(?:&>|>|\|)\s?", command)[0])
    words = words[words.index("python") :] if "python" in words else words
    match words:
        case ["make", *targets]:
            for target in targets:
                subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)
        case ["yoloperf", "--help" | "--version"]:
            pass
        case ["yoloperf", verb, *flags]:
            parser_for(verb, load(verb)).parse_args(flags)
        case ["python", "train.py", *flags]:
            train.parser().parse_args(flags)
        case ["python", "detect.py", *flags]:
            detect.parser().parse_args(flags)
        case ["python", "-m", module, *_]:
            assert (ROOT / (module.replace(".", "/") + ".py")).is_file()
        case ["python", script, *_]:
            assert (ROOT / script).is_file()
        case [program, *_]:
            assert shutil.which(program) or program in ("sbatch", "docker", "apptainer", "kubectl"), f"{document}: {command}"


def test_every_verb_is_documented() -> None:
    text = "\n".join(path.read_text() for path in DOCUMENTS)
    assert [verb for verb in VERBS if f"yoloperf {verb}" not in text] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=[path.relative_to(ROOT).as_posix() for path in DOCUMENTS])
def test_links_lead_somewhere(path: Path) -> None:
    for target in LINK.findall(path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}"
