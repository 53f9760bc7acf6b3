"""The tree of exceptions: whole in the docstring, and whole in the public face."""

from __future__ import annotations

import re
from collections.abc import Iterator

import headrace
from headrace import errors


def tree(kind: type[Exception]) -> Iterator[type[Exception]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


ALL = sorted({kind.__name__ for kind in tree(errors.HeadraceError)})


BESIDE = {"JobInterrupted": "BaseException"}  # so that no `except Exception` of a task keeps it


def test_every_exception_is_exported() -> None:
    assert [name for name in ALL if name not in headrace.__all__] == []


def test_everything_in_the_module_is_in_the_tree() -> None:
    kinds = [
        v for v in vars(errors).values() if isinstance(v, type) and v.__module__ == errors.__name__
    ]
    assert sorted(kind.__name__ for kind in kinds) == sorted([*ALL, *BESIDE])


def test_the_docstring_draws_the_whole_tree_as_it_is() -> None:
    drawn: list[tuple[str, str]] = []
    parents: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"([│├└─ ]*)([A-Z]\w+)(?: {2,}|$)", line)
        if match is None:
            continue
        depth = len(match[1]) // 4
        del parents[depth:]
        drawn.append((match[2], parents[-1] if parents else ""))
        parents.append(match[2])
    assert sorted(name for name, _ in drawn) == sorted([*ALL, *BESIDE])
    for name, parent in drawn:
        bases = [base.__name__ for base in getattr(errors, name).__bases__]
        assert bases[0] == (parent or BESIDE.get(name, "Exception"))
