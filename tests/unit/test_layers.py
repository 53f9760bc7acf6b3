"""The shape of the package, held as data: layers, 'only' rules, budgets.

Nothing is imported here: every module under ``src/headrace`` is parsed, and its imports, names and
texts are compared with the tables below. A change of shape is a change of these tables, in the same
commit as its reason.
"""

import ast
import graphlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "headrace"

# Lowest first. A module imports only from entries before its own; inside an entry that is a package
# the modules may import one another, without a circle. `__init__` is the public face.
LAYERS = (
    *(
        "errors",
        "plain",
        "clock",
        "ids",
        "keys",
        "scripts",
        "faithful",
        "fields",
        "expiry",
        "wire",
        "history",
        "remote",
        "results",
        "retry",
        "settings",
        "credentials",
        "run_limits",
        "key_options",
        "holders",
        "redaction",
    ),
    *(
        "operations",
        "handoff",
        "forwarding",
        "lanes",
        "options",
        "context",
        "encryption",
        "flows",
        "partitions",
        "access",
        "unique",
        "store",
        "embedded",
        "policy",
        "logs",
    ),
    *(
        "reports",
        "producer",
        "flow_control",
        "job_reports",
        "job",
        "gathering",
        "function",
        "conversion",
        "hooks",
        "schedules",
        "task",
        "stream_task",
        "batches",
        "tasks",
        "lifespan",
        "discovery",
        "event_loop",
        "garbage",
        "listening",
        "workflows",
        "timings",
        "moving",
        "forgetting",
        "app",
        "maintenance",
    ),
    "__init__",
    *(
        "consumer",
        "leasing",
        "isolation",
        "duties",
        "webhooks",
        "supervisor",
        "doctor",
        "web",
        "demo",
        "cli",
    ),
    *("testing", "otel", "sentry", "__main__"),
)

KEY = r"(?s).*(:(processing|dlq|delayed|priority|leases|claims|nudge|stats|meta|cancelled|result|unique|history|limited|timings|minutes|lanes|slots|admitted|limits|buckets)\b|\bheadrace:(?! )).*"

# Who alone may do it; what it is; the kind of fact (see `facts`) and the pattern that is it.
ONLY = (
    (("store", "credentials"), "talks to Redis", "import", r"(redis|hiredis|valkey)(\..+)?"),
    (("settings",), "reads the environment", "import|name", r"os\.(environb?|getenvb?)"),
    (("keys", "lanes", "timings", "webhooks"), "spells a Redis key", "text", KEY),
    (("cli", "demo"), "prints", "import|name", r"print|sys\.stdout"),
    (("clock",), "knows the time (others: headrace.clock)", "import", r"time(\..+)?"),
    (("clock",), "knows the date", "name", r"(.+\.)?(datetime|date)\.(now|utcnow|today)"),
    (("cli",), "imports inside a function", "late import", r".+"),
)

MODULE_LINES = 350
FUNCTION_LINES = 45  # with its signature, without its docstring
SCRIPT_LINES = 80
# Of code: no blank lines, comments and docstrings; Python and Lua.
CORE_LINES = 4_896
INTERFACE_LINES = 1_921
# The core is what a plain job touches between the call and its end. What a program is written with (app, task,
# job, options, …) is the interface: a feature may need a word there, and none in the core.
CORE = (*("wire", "keys", "scripts", "operations", "store", "producer", "consumer", "maintenance"),)
# Beside both: what operators ask, how log lines are written, processes that are started anew; what is done
# once, before a consumer begins; conversion, which only functions pay for whose annotations ask for it;
# what only the tests of applications import; and what only delayed jobs need to be punctual.
NEITHER = (
    *("web", "cli", "demo", "embedded", "doctor", "supervisor", "isolation", "logs", "leasing"),
    *(
        "redaction",
        "access",
        "otel",
        "sentry",
        "lifespan",
        "discovery",
        "event_loop",
        "garbage",
        "listening",
        "conversion",
        "duties",
        "hooks",
        "batches",
    ),
    *(
        "encryption",
        "handoff",
        "key_options",
        "schedules",
        "testing",
        "unique",
        "workflows",
        "lanes",
        "flow_control",
    ),
    # What only those have to do with who have a cluster.
    *("store/cluster", "store/guides.py"),
    *("forgetting", "moving", "forwarding", "partitions", "credentials"),
    *(
        "remote",
        "reports",
        "stream_task",
        "history",
        "gathering",
        "job_reports",
        "fields",
        "holders",
    ),
    *("timings", "consumer/statistics.py", "webhooks"),
    *("consumer/report.py", "consumer/record.py", "operations/operating.py", "store/probe.py"),
    "maintenance/promoter.py",
    # The limits of runs, for tasks and jobs that have some; and how a running job hears at once that it is cancelled.
    *("run_limits", "expiry", "consumer/timeliness.py"),
    *("consumer/cancellation.py", "store/subscription.py"),
    *("consumer/admission.py", "consumer/limited.py"),
)


def lines_of(node: ast.stmt) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


@dataclass(frozen=True)
class Module:
    """One Python file of the package: its place in it, and its text."""

    path: str
    source: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source, self.path)

    @property
    def entry(self) -> str:
        return self.path.split("/")[0].removesuffix(".py")

    @property
    def name(self) -> str:
        return ".".join(
            ["headrace", *self.path.removesuffix("/__init__.py").removesuffix(".py").split("/")]
        )

    def imports(self) -> Iterator[tuple[int, str]]:
        """Every import, at any depth: its line, and the dotted name (``from a import b`` is a.b)."""
        parents = self.path.removesuffix(".py").split("/")[:-1]
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                start = [node.module] if node.module else []
                if node.level:
                    start = ["headrace", *parents[: len(parents) + 1 - node.level], *start]
                yield from ((node.lineno, ".".join([*start, alias.name])) for alias in node.names)

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        yield from (node for node in ast.walk(self.tree) if isinstance(node, functions))

    def docstrings(self) -> Iterator[ast.Expr]:
        """Every text that stands alone: those of modules, classes, functions and attributes."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                yield node

    def code_lines(self) -> int:
        silent = {n for node in self.docstrings() for n in lines_of(node)}
        lines = enumerate(self.source.splitlines(), start=1)
        return sum(1 for n, line in lines if n not in silent and re.match(r"\s*[^\s#]", line))


def dotted(node: ast.expr) -> str:
    """Return the name as it is written; what is no name in it, as a call, is ``()``."""
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else "()"


def facts(module: Module) -> Iterator[tuple[str, int, str]]:
    """What a module does, as far as the rules ask: kind, line, text."""
    late = {
        node.lineno
        for function in module.functions()
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    for line, name in module.imports():
        yield "import", line, name
        if line in late:
            yield "late import", line, name
    docstrings = {id(node.value) for node in module.docstrings()}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Name | ast.Attribute):
            yield "name", node.lineno, dotted(node)
        elif isinstance(node, ast.Constant) and id(node) not in docstrings:
            if isinstance(node.value, str):
                yield "text", node.lineno, node.value
            elif isinstance(node.value, bytes):
                yield "text", node.lineno, node.value.decode("latin-1")


def only_faults(module: Module) -> list[str]:
    return [
        f"src/headrace/{module.path}:{line}: only {' and '.join(who)} {what}; found {text!r}"
        for kind, line, text in facts(module)
        for who, what, kinds, pattern in ONLY
        if module.entry not in who and kind in kinds.split("|") and re.fullmatch(pattern, text)
    ]


def layer_faults(module: Module) -> list[str]:
    faults: list[str] = []
    if module.entry not in LAYERS:
        faults.append(
            f"src/headrace/{module.path} stands on no layer: put {module.entry!r} into LAYERS of "
            "tests/unit/test_layers.py, above all that it imports and below all that imports it"
        )
        return faults
    for line, name in module.imports():
        if name.split(".")[0] != "headrace":
            continue
        entry = ([*name.split("."), ""])[1]
        if entry not in LAYERS:  # not a module: a name of the public face
            entry = "__init__"
        if entry != module.entry and LAYERS.index(entry) > LAYERS.index(module.entry):
            faults.append(
                f"src/headrace/{module.path}:{line}: imports {name} from a layer above its own; move "
                "what both need below them, or hand it in as an argument"
            )
    return faults


def circle(modules: list[Module]) -> list[str]:
    """Names of modules that import one another in a circle, or nothing."""
    known = {module.name for module in modules}
    graph = {}
    for module in modules:
        # `from a.b import c` is the module a.b.c where there is one, else a name out of a.b.
        targets = {
            name if name in known else name.rpartition(".")[0] for _, name in module.imports()
        }
        graph[module.name] = (targets & known) - {module.name}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def long_functions(module: Module) -> list[str]:
    faults = []
    for node in module.functions():
        lines = len(lines_of(node))
        if ast.get_docstring(node) is not None:
            lines -= len(lines_of(node.body[0]))
        if lines > FUNCTION_LINES:
            where = f"src/headrace/{module.path}:{node.lineno}"
            faults.append(f"{where}: {node.name} has {lines} lines, more than {FUNCTION_LINES}")
    return faults


def lua_code(source: str) -> list[str]:
    """Give the lines of a script without comments and blank ones."""
    lines = (re.sub(r"(^|\s)--.*", "", line) for line in source.splitlines())
    return [line for line in lines if line.strip()]


MODULES = [
    Module(path.relative_to(PACKAGE).as_posix(), path.read_text("utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
]
SCRIPTS = {
    path.relative_to(PACKAGE).as_posix(): path.read_text("utf-8")
    for path in sorted(PACKAGE.rglob("*.lua"))
}


def test_a_module_imports_only_from_layers_below_its_own() -> None:
    faults = [fault for module in MODULES for fault in layer_faults(module)]
    assert not faults, "\n".join(faults)


def test_no_modules_import_one_another_in_a_circle() -> None:
    assert not circle(MODULES), " -> ".join(circle(MODULES))


def test_what_only_one_may_do_nobody_else_does() -> None:
    faults = [fault for module in MODULES for fault in only_faults(module)]
    assert not faults, "\n".join(faults)


def test_scripts_take_their_keys_from_their_caller() -> None:
    faults = [
        f"src/headrace/{path}: spells a key: {line.strip()}"
        for path, source in SCRIPTS.items()
        for line in lua_code(source)
        if re.fullmatch(KEY, line)
    ]
    assert not faults, "\n".join(faults)


def test_no_module_and_no_script_outgrows_a_reader() -> None:
    sizes = {module.path: (module.source.count("\n"), MODULE_LINES) for module in MODULES}
    sizes |= {path: (source.count("\n"), SCRIPT_LINES) for path, source in SCRIPTS.items()}
    faults = [
        f"src/headrace/{path} has {lines} lines, more than {most}: split it"
        for path, (lines, most) in sizes.items()
        if lines > most
    ]
    assert not faults, "\n".join(faults)


def test_no_function_outgrows_a_screen() -> None:
    faults = [fault for module in MODULES for fault in long_functions(module)]
    assert not faults, "\n".join(faults)


def code_lines(*, of_the_core: bool) -> int:
    beside = tuple(name if name.endswith(".py") else f"{name}/" for name in NEITHER)
    modules = [m for m in MODULES if m.entry not in NEITHER and not m.path.startswith(beside)]
    return sum(m.code_lines() for m in modules if (m.entry in CORE) is of_the_core)


def test_the_core_stays_within_its_budget() -> None:
    lines = code_lines(of_the_core=True)
    of_the_core = {path: source for path, source in SCRIPTS.items() if path.startswith("scripts/")}
    lines += sum(len(lua_code(source)) for source in of_the_core.values())
    assert lines <= CORE_LINES, f"{lines} lines of code: make it smaller before it grows"


def test_the_interface_stays_within_its_budget() -> None:
    lines = code_lines(of_the_core=False)
    assert lines <= INTERFACE_LINES, f"{lines} lines of code: can it stand beside the interface?"


def test_what_the_documents_say_of_the_cores_size_is_true() -> None:
    root = PACKAGE.parents[1]
    assert f"{CORE_LINES:,} lines of code" in (root / "CONTRIBUTING.md").read_text()
    (said,) = re.findall(
        r"a core of some (\d,\d{3}) lines of code", (root / "README.md").read_text()
    )
    assert abs(int(said.replace(",", "")) - CORE_LINES) <= 200, f"README.md says {said}"


# The rules themselves: each sees what it forbids, and lets pass what it should.


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("keys.py", "from headrace.producer import enqueue"),
        ("keys.py", "import headrace.producer"),
        ("keys.py", "from headrace import producer"),
        ("keys.py", "from headrace import Headrace"),
        ("keys.py", "from . import producer"),
        ("keys.py", "if TYPE_CHECKING:\n    from .producer import Producer"),
        ("store/sync.py", "from ..producer import Producer"),
        ("novelty.py", "pass"),
        ("novelty/part.py", "pass"),
    ],
)
def test_an_import_from_above_is_seen(path: str, source: str) -> None:
    assert len(layer_faults(Module(path, source))) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("producer.py", "from headrace import keys\nfrom headrace.errors import InvalidJob"),
        ("store/sync.py", "from headrace.store.policy import x\nfrom .policy import y"),
        ("demo/__init__.py", "from headrace import Headrace"),
        ("keys.py", "import re\nfrom functools import cache"),
    ],
)
def test_an_import_from_below_is_welcome(path: str, source: str) -> None:
    assert layer_faults(Module(path, source)) == []


def test_a_circle_inside_a_package_is_seen() -> None:
    package = Module("store/__init__.py", "from headrace.store.sync import Store")
    assert circle([package, Module("store/sync.py", "import redis")]) == []
    assert circle([package, Module("store/sync.py", "from headrace.store import x")])


@pytest.mark.parametrize(
    "source",
    [
        "import redis.asyncio",
        "from redis import Redis",
        "import os\nos.environ.get('X')",
        "from os import getenv",
        "key = f'{queue}:dlq'",
        "key = b'queue:leases'",
        "key = 'headrace:leader'",
        "print('hello')",
        "import sys\nsys.stdout.write('hello')",
        "import time",
        "from time import sleep",
        "import datetime\ndatetime.datetime.now()",
        "from datetime import datetime\ndatetime.now(UTC)",
        "def f():\n    import json",
        "async def f():\n    if x:\n        from json import loads",
    ],
)
def test_what_only_another_may_do_is_seen(source: str) -> None:
    assert only_faults(Module("producer.py", source)) != []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("store/sync.py", "import redis"),
        ("settings.py", "import os\nos.environ"),
        ("cli/consume.py", "def f():\n    from rich import print"),
        ("clock.py", "import time"),
        ("producer.py", '"""Reads queue:dlq."""\nx = 1\n"""As in headrace:leader."""'),
        ("producer.py", "from headrace.clock import monotonic\nmonotonic()"),
        ("producer.py", "import os\nos.urandom(4)\nmessage = 'headrace: no queue'"),
    ],
)
def test_what_is_allowed_passes(path: str, source: str) -> None:
    assert only_faults(Module(path, source)) == []


def test_a_function_is_measured_without_its_docstring() -> None:
    body = "    x = 1\n" * (FUNCTION_LINES - 1)
    assert (
        long_functions(Module("x.py", f'def f():\n    """One.\n\n    Two.\n    """\n{body}')) == []
    )
    assert long_functions(Module("x.py", f"def f(\n    x,\n):\n{body}")) != []


def test_only_code_counts_as_code() -> None:
    source = '"""Says\nmuch."""\n\n# why\nx = 1  # here\n"""What x is."""\ndef f():\n    "Doc."\n    return 2\n'
    assert Module("x.py", source).code_lines() == 3
    assert lua_code("#!lua\n-- why\n\nlocal x = 1  -- here\n") == ["#!lua", "local x = 1 "]
