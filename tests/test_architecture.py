"""The promises of the code base about itself: names, sizes, imports, tools."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "drdp"
MODULES = sorted(PACKAGE.rglob("*.py"))
NAMES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in MODULES
]

# A file is named after the one thing it knows; these names say nothing.
EMPTY_NAMES = {
    "base",
    "common",
    "core",
    "engine",
    "helpers",
    "manager",
    "misc",
    "util",
    "utils",
}
LONGEST_MODULE = 400

# What neither `import drdp` nor the start of the command line may pay for.
SLOW = ("matplotlib", "numba", "numpy", "prv_accountant", "scipy", "torch")
OPTIONAL = (
    "accelerate",
    "dp_accounting",
    "flwr",
    "matplotlib",
    "opacus",
    "peft",
    "torch",
    "transformers",
)

# Written for a host or with networks; nothing else imports these on its way in.
HOSTED = (
    "drdp.compression.networks",
    "drdp.fedsim.flower",
    "drdp.fedsim.lora",
    "drdp.privacy.adapters.",
)

# Written in pieces, so that this file does not find itself.
FOREIGN_TEXT = [
    r"[\w.-]*" + r"py" + r"pi\.(?:org|io)",
    r"files\.python" + r"hosted",
    r"[\w.-]*" + r"py" + r"torch\.org",
    r"registry\.np" + r"mjs",
    r"file:" + r"//",
    r"(?<![\w.~-])/(?:" + r"work|ro" + r"ot|ho" + r"me|Us" + r"ers|o" + r"pt)/",
]
NOT_OURS = {"LICENSE"}  # the standard text
SKIPPED_FOLDERS = {"__pycache__", "build", "dist", "env", "venv"}


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def texts() -> list[Path]:
    """Every text file that a clone holds or would be committed."""
    found = []
    for path in ROOT.rglob("*"):
        folders = path.relative_to(ROOT).parts[:-1]
        hidden = any(name.startswith(".") and name != ".ci" for name in folders)
        if hidden or SKIPPED_FOLDERS.intersection(folders) or not path.is_file():
            continue
        if any(name.endswith(".egg-info") for name in folders):
            continue
        if path.name not in NOT_OURS and b"\0" not in path.read_bytes():
            found.append(path)
    return found


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# --- files ---------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["drdp", "tests", "benchmarks"])
def test_file_names_say_something(folder: str) -> None:
    files = (ROOT / folder).rglob("*.py")
    assert [relative(f) for f in files if f.stem.strip("_") in EMPTY_NAMES] == []


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_module_is_short_and_opens_with_what_it_knows(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring, "a module opens with one sentence saying what it knows"
    summary = docstring.splitlines()[0]
    assert summary.endswith("."), f"not a sentence: {summary!r}"
    assert len(text.splitlines()) <= LONGEST_MODULE, "split it: it knows too much"


def test_repository_names_no_machine_and_no_registry() -> None:
    foreign = re.compile("|".join(FOREIGN_TEXT))
    found = [
        f"{relative(path)}:{number}: {match[0]}"
        for path in texts()
        for number, line in enumerate(
            path.read_text(encoding="utf-8", errors="replace").splitlines(), 1
        )
        if (match := foreign.search(line))
    ]
    assert found == []


def test_constraints_pin_every_package_once() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []
    names = [re.sub(r"[-_.]+", "-", pin.split("==")[0]).lower() for pin in pins]
    assert len(names) == len(set(names))
    assert "torch==2.13.0" in pins


# --- public names --------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_public_names_exist_and_are_documented(name: str) -> None:
    module = importlib.import_module(name)
    for public in getattr(module, "__all__", ()):
        value = getattr(module, public)
        if callable(value) and getattr(value, "__module__", "").startswith("drdp"):
            assert value.__doc__, f"{name}.{public} has no docstring"


def test_lazy_face_agrees_with_what_type_checkers_see() -> None:
    import drdp

    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    seen = {
        alias.asname or alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        and isinstance(block.test, ast.Name)
        and block.test.id == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    table = {name: home for home, names in drdp._HOMES.items() for name in names}
    assert seen == table
    assert sorted(drdp.__all__) == sorted(["__version__", *table])
    for name, home in table.items():
        assert getattr(drdp, name) is getattr(importlib.import_module(home), name)
        assert name in importlib.import_module(home).__all__, f"{home}.{name}"
    with pytest.raises(AttributeError, match="no_such_name"):
        drdp.no_such_name  # noqa: B018 - the access is the test


# --- imports -------------------------------------------------------------------


def loaded_after(code: str) -> set[str]:
    """The top-level packages that `code` leaves in sys.modules."""
    done = python(
        "import sys, json\n"
        f"{code}\n"
        "top = sorted({name.partition('.')[0] for name in sys.modules})\n"
        "print('\\n' + json.dumps(top))"
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_is_cheap() -> None:
    assert loaded_after("import drdp").isdisjoint({*SLOW, "click"})


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_asking_for_help_is_cheap(option: str) -> None:
    code = (
        "from drdp.cli import main\n"
        f"sys.argv = ['drdp', {option!r}]\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code"
    )
    assert loaded_after(code).isdisjoint(SLOW)


def test_every_module_imports_without_the_optional_packages() -> None:
    lean = [name for name in NAMES if not name.startswith(HOSTED)]
    done = python(
        "import sys, importlib\n"
        f"sys.modules.update(dict.fromkeys({OPTIONAL!r}))\n"
        f"for name in {lean!r}:\n"
        "    importlib.import_module(name)"
    )
    assert done.returncode == 0, done.stderr


# --- tools ---------------------------------------------------------------------


def run_tool(*command: str | Path) -> None:
    tool = Path(sys.executable).parent / command[0]
    done = subprocess.run(
        [tool, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "command",
    ["ruff check --no-cache .", "ruff format --no-cache --check .", "lint-imports"],
)
def test_linters_are_content(command: str) -> None:
    run_tool(*command.split())


def test_types_are_sound_and_public_names_reach_strict_users(tmp_path: Path) -> None:
    import drdp

    user = tmp_path / "user.py"
    names = ", ".join(name for name in drdp.__all__ if name != "__version__")
    user.write_text(f"from drdp import {names}\n", encoding="utf-8")
    run_tool("mypy", "drdp", user)


# --- the README's two lines ----------------------------------------------------


def test_readme_has_exactly_the_two_lines_that_ci_runs() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```sh\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    first, second = block.splitlines()
    assert first.endswith("drdp calibrate --epsilon 2 --steps 20 --rate 0.05")
    assert re.search(r"python -m pytest\b", second)
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "README.md" in script.read_text(encoding="utf-8")
