"""What the modules that can be compiled may not use: mypyc takes it, and makes something else of it.

Found the hard way: an attribute whose default was ``field(init=False)`` did not exist in the compiled class.
Whether all works compiled, ``make compiled`` sees, which needs a C compiler.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def modules() -> list[str]:
    """Return the modules that hatch_build.py names, without importing it: it needs mypyc."""
    tree = ast.parse((ROOT / "hatch_build.py").read_text())
    (names,) = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COMPILED"
    ]
    return list(ast.literal_eval(names))


@pytest.mark.parametrize("module", modules())
def test_classes_of_a_module_that_can_be_compiled_have_plain_defaults(module: str) -> None:
    tree = ast.parse((ROOT / f"src/headrace/{module}.py").read_text())
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not called & {"field", "dataclasses.field"}
