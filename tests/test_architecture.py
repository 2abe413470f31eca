"""The shape of the product: who may import whom, what an import costs, what the package carries."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import advisor

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "advisor"
MODULES = sorted(FOLDER.rglob("*.py"))
HEAVY = ("git", "requests", "numpy", "sqlalchemy", "prometheus_api_client", "kubernetes", "langchain", "streamlit")
STAGES = (
    "incident",
    "evidence",
    "diagnosis",
    "proposal",
    "approval",
    "change",
    "verification",
    "rollback",
    "lifecycle",
    "errors",
)
LOCKS = sorted((ROOT / "locks").glob("*.txt"))


def python(code: str) -> str:
    """Run code in a fresh interpreter and return what it printed last."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


# --- who may import whom -----------------------------------------------------------------------------------------------


def test_the_import_contracts_are_kept() -> None:
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_every_module_has_its_layer() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layered = next(c for c in contracts if c["type"] == "layers")
    assert layered["exhaustive"] is True
    named = {part.strip() for line in layered["layers"] for part in line.split("|")}
    there = {
        p.stem if p.is_file() else p.name
        for p in FOLDER.iterdir()
        if (p.suffix == ".py" and p.stem != "__init__") or (p.is_dir() and list(p.glob("*.py")))
    }
    assert there <= named


def test_every_stage_has_a_module() -> None:
    for stage in STAGES:
        assert (FOLDER / f"{stage}.py").exists() or (FOLDER / stage / "__init__.py").exists(), stage


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_why_it_exists(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring, f"{name_of(path)} has no docstring"
    assert len(docstring.splitlines()[0]) <= 130


def test_every_folder_of_modules_is_a_package() -> None:
    for folder in {p.parent for p in MODULES}:
        assert (folder / "__init__.py").exists(), name_of(folder)


def test_no_module_tells_its_callers_to_run_a_shell() -> None:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("os.system", "os.popen", "eval", "exec"), f"{name_of(path)}:{node.lineno}"
                assert not any(k.arg == "shell" and getattr(k.value, "value", None) is True for k in node.keywords), (
                    name_of(path)
                )


# --- what an import costs ----------------------------------------------------------------------------------------------

_LOADED = f"print(','.join(m for m in {(*HEAVY, 'pydantic', 'yaml', 'typer', 'rich')!r} if m in sys.modules))"


def test_importing_the_package_loads_no_library() -> None:
    assert python(f"import sys, advisor; {_LOADED}") == ""


def test_help_loads_no_client_library() -> None:
    code = "import io, sys, contextlib\nwith contextlib.redirect_stdout(io.StringIO()):\n    from advisor.cli import run\n    run(['--help'])\n"
    loaded = python(code + _LOADED.replace("print(", "print('loaded', "))
    assert not set(loaded.removeprefix("loaded").strip().split(",")) & set(HEAVY), loaded


def test_importing_the_package_takes_less_than_fifty_milliseconds() -> None:
    code = "import time; t = time.perf_counter(); import advisor; print((time.perf_counter() - t) * 1000)"
    assert min(float(python(code)) for _ in range(4)) < 50


# --- the public names --------------------------------------------------------------------------------------------------


def test_every_public_name_is_there_and_documented() -> None:
    for name in advisor.__all__:
        value = getattr(advisor, name)
        assert name == "__version__" or value.__doc__, name
    assert len(set(advisor.__all__)) == len(advisor.__all__)
    assert set(advisor.__all__) <= set(dir(advisor))


def test_public_names_stand_in_the_order_of_the_flow() -> None:
    homes = [advisor._HOMES[name] for name in advisor.__all__ if name != "__version__"]
    order = [
        "incident",
        "evidence",
        "diagnosis",
        "playbook",
        "proposal",
        "approval",
        "change",
        "verification",
        "rollback",
        "lifecycle",
        "errors",
    ]
    assert [h for i, h in enumerate(homes) if i == 0 or homes[i - 1] != h] == order
    assert set(advisor._HOMES) == set(advisor.__all__) - {"__version__"}


def test_what_type_checkers_see_is_what_is_loaded() -> None:
    tree = ast.parse((FOLDER / "__init__.py").read_text())
    guarded = next(n for n in tree.body if isinstance(n, ast.If))
    seen = {
        a.name: (n.module or "").removeprefix("advisor.")
        for n in guarded.body
        if isinstance(n, ast.ImportFrom)
        for a in n.names
    }
    assert seen == advisor._HOMES


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'advisor' has no attribute 'Inident'"):
        _ = advisor.Inident
    assert not hasattr(advisor, "__path_of_nothing__")


# --- what is shipped ---------------------------------------------------------------------------------------------------


def test_the_version_is_written_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert advisor.__version__ == project["version"]


def test_locks_exist_for_every_way_of_installing() -> None:
    assert {p.stem for p in LOCKS} >= {"core", "dev", "all"}


@pytest.mark.parametrize("path", LOCKS, ids=lambda p: p.name)
def test_a_lock_has_a_hash_for_each_requirement_and_names_no_place(path: Path) -> None:
    text = path.read_text()
    requirements = [r for r in re.split(r"(?m)^(?=[A-Za-z0-9])", text) if r.strip() and not r.startswith("#")]
    assert requirements
    for requirement in requirements:
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z0-9,-]+\])?==[^\s;]+", requirement), requirement[:80]
        assert "--hash=sha256:" in requirement, requirement[:80]
    assert "://" not in text
    assert not re.search(r"(?m)^\s*(-i|--index-url|--extra-index-url|--find-links|-f|--trusted-host|-e)\b", text)
    assert not re.search(r"\s@\s|\bfile:", text)


def test_every_declared_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = {
        re.split(r"[=\[]", line)[0]
        for line in (ROOT / "locks" / "core.txt").read_text().splitlines()
        if re.match(r"[A-Za-z0-9]", line)
    }
    for dependency in project["dependencies"]:
        assert re.split(r"[<>=\[;]", dependency)[0] in locked, dependency


def test_the_wheel_carries_playbooks_and_screens(tmp_path: Path) -> None:
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    shipped = {str(p.relative_to(ROOT)) for p in (ROOT / "playbooks").rglob("*.yaml")} | {
        str(p.relative_to(ROOT)) for p in (ROOT / "ui").rglob("*") if p.is_file() and "__pycache__" not in p.parts
    }
    assert shipped
    assert {f"advisor/_data/{name}" for name in shipped} <= set(names)
    assert {str(p.relative_to(ROOT)) for p in MODULES} <= set(names)
    assert not [n for n in names if not n.startswith(("advisor/", "ops_advisor-"))]
