"""The package: its stubs say what there is, and its examples do what they say."""

import ast
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import atomic_matrix as am
from atomic_matrix import _native
from conftest import LONG

HERE = Path(__file__).parent
PACKAGE = Path(am.__file__).parent


def _members(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> set[str]:
    own = {item.name for item in node.body if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef))}
    for base in node.bases:
        own |= _members(classes[base.id], classes)
    return own


# What every object has, and what only this package's own Python code calls.
UNTOLD = {"__new__", "__repr__", "__reduce__", "__release_buffer__", "_attach", "_bell", "_try"}


def test_the_stubs_name_exactly_what_is_there():
    tree = ast.parse((PACKAGE / "_native.pyi").read_text())
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    public = {name for name, value in vars(_native).items() if inspect.isclass(value)} - {"Bell"}
    assert set(classes) - {"_Bytes"} == public
    assert public <= set(am.__all__)
    for name in public:
        there = {member for member in vars(getattr(_native, name)) if not member.startswith("__") or callable(
            vars(getattr(_native, name))[member])}
        there -= UNTOLD | set(dir(object)) - {"__eq__"}
        told = _members(classes[name], classes)
        # `__buffer__` is a method since 3.12; before that it is the type's own.
        missing = {member for member in told - there if not hasattr(getattr(_native, name), member)} - {"__buffer__"}
        assert (there - told, missing) == (set(), set()), name


def test_it_is_typed_and_all_it_names_is_there():
    assert (PACKAGE / "py.typed").exists()
    for name in am.__all__:
        value = getattr(am, name)
        assert inspect.isclass(value)
        assert not issubclass(value, BaseException) or value.__doc__


@pytest.mark.skipif("CAMERA" not in os.environ, reason="bridges/python/test builds the camera")
def test_a_camera_in_rust_is_seen_by_a_viewer_in_python(name):
    viewers = [
        subprocess.Popen([sys.executable, HERE.parent / "examples/viewer.py", name], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    camera = subprocess.Popen([os.environ["CAMERA"], name, "60"])
    try:
        outputs = [viewer.communicate(timeout=LONG)[0] for viewer in viewers]
        assert camera.wait(LONG) == 0
    finally:
        for process in [*viewers, camera]:
            process.kill()
            process.wait(LONG)
    for viewer, output in zip(viewers, outputs):
        assert viewer.returncode == 0 and "the ball is at" in output and "the camera has ended" in output, output
