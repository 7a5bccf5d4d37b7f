"""The base works with every extra blocked, and never reaches for what the project keeps out."""

import subprocess
import sys

BLOCKED = [
    "tensorboard",
    "torchvision",
    "pandas",
    "sklearn",
    "skimage",
    "openslide",
    "shapely",
    "defusedxml",
    "nibabel",
    "monai",
    "hypothesis",
    "pytest",
    "tensorflow",
    "timm",
]

SCRIPT = f"""
import builtins, importlib, pkgutil

plain_import = builtins.__import__

def guarded(name, globals=None, locals=None, fromlist=(), level=0):
    if level == 0 and name.partition(".")[0] in {BLOCKED!r}:
        raise ModuleNotFoundError(name + " is blocked")
    return plain_import(name, globals, locals, fromlist, level)

builtins.__import__ = guarded
import synthoma
names = [m.name for m in pkgutil.walk_packages(synthoma.__path__, "synthoma.") if not m.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
assert len(names) > 40, names
from synthoma.recipe import load_recipe
from synthoma.training.cost import estimate_cost
assert estimate_cost(load_recipe("demo")).images_per_second > 0
print("fine")
"""


def test_the_base_imports_and_runs_with_all_extras_blocked() -> None:
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "fine"


def test_help_does_not_wait_for_torch() -> None:
    script = "import sys; from synthoma.cli.app import app; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "False", result.stderr
