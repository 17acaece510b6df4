"""YAML files that people write: sweeps, studies."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from yoloperf.core.errors import UserError, choose

_MERGE = "tag:yaml.org,2002:merge"


def read_yaml(path: Path, what: str, near: str = "*.yaml") -> Any:
    """Content of a file. what: what it is in messages; near: which files beside it, or in sweeps/, may have been meant.

    Raises UserError where it is not there, cannot be read or is no YAML.
    """
    try:
        return yaml.load(path.read_text("utf-8-sig"), Loader=_Loader)
    except FileNotFoundError:
        folder = path.parent if path.parent.is_dir() and any(path.parent.glob(near)) else Path("sweeps")
        files = [str(file) for file in folder.glob(near)]
        choose(str(path), files or ["a path of your own, see sweeps/README.md"], what)
        raise
    except OSError as error:
        raise UserError(f"cannot read {what} {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from error


class _Loader(yaml.SafeLoader):
    """YAML without two traps of PyYAML: 1e-3 is a number, and a key given twice is an error instead of the last one."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        # as written: what `<<: *base` brings may be given again
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE]
        for key, count in Counter(keys).items():
            if count > 1:
                raise yaml.YAMLError(f"key {key!r} is given twice{node.start_mark}")
        return node


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789"))
