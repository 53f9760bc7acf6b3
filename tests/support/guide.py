"""The guide's tables of settings and metrics, made from the code: ``python -m tests.support.guide``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from cyclopts import App

from headrace.cli import app
from headrace.cli.flags import shown_default
from headrace.web.metrics import QueueCollector

_MANY = 6  # commands that a row names

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide.md"


def commands(of: App = app, chain: tuple[str, ...] = ()) -> Iterator[tuple[str, App]]:
    """Every command with its full name, in the order of the help page; an alias is none of its own."""
    names = [name for name in of if not name.startswith("-") and name in of[name].name]
    for name in names:
        command = of[name]
        if command.default_command is not None:
            yield " ".join((*chain, name)), command
        yield from commands(command, (*chain, name))


def variables(name: str, names: list[str], env_var: object) -> str:
    """The variable that stands for an option of a command."""
    if names[0] == "--url":
        return "HEADRACE_URL"
    if isinstance(env_var, tuple | list) and env_var:
        return str(env_var[0])
    return f"HEADRACE_{name}_{names[0].lstrip('-')}".upper().replace("-", "_").replace(" ", "_")


def options() -> Iterator[tuple[str, list[str], str, str, str]]:
    """Every option of every command: the command, its names, its variable, its default, its help."""
    for name, command in commands():
        for one in command.assemble_argument_collection(parse_docstring=True):
            names = [one for one in one.names if not one.startswith(("--no-", "--empty-"))]
            if names and (names[0].startswith("-") or one.parameter.env_var):
                default = shown_default(one.field_info.default) or ""
                if not isinstance(one.field_info.default, str | int | float | None):
                    default = ""
                variable = variables(name, names, one.parameter.env_var)
                yield name, names, variable, default, one.parameter.help or ""


def settings() -> str:
    """A row for each option; those that several commands share are said once."""
    rows: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    for name, names, variable, default, says in options():
        flag = ", ".join(f"`{one}`" for one in names)
        rows.setdefault((flag, default, says.replace("|", "\\|")), []).append((name, variable))
    lines = ["| option | of | variable | default | |", "|---|---|---|---|---|"]
    for (flag, default, says), uses in rows.items():
        found = sorted({variable for _, variable in uses})
        variable = found[0]
        if len(found) > 1:
            variable = "HEADRACE_…_" + variable.split("_")[-1]
        who = ", ".join(f"`{name}`" for name, _ in uses)
        if len(uses) > _MANY:
            who = "most"
        shown = f"`{default}`" if default else ""
        lines.append(f"| {flag} | {who} | `{variable}` | {shown} | {says} |")
    return "\n".join(lines)


def metrics() -> str:
    """A row for each metric that is exported."""
    families = QueueCollector([], leads=False).collect()
    lines = ["| metric | type | labels | |", "|---|---|---|---|"]
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = ", ".join(f"`{label}`" for label in getattr(family, "_labelnames", ()))
        lines.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |")
    return "\n".join(lines)


def written(text: str) -> str:
    """The guide with its tables as the code has them."""
    for name, table in (("settings", settings()), ("metrics", metrics())):
        pattern = rf"(<!-- {name}: .*? -->\n).*?(<!-- end -->)"
        match = re.search(pattern, text, re.DOTALL)
        assert match is not None, f"docs/guide.md has no place for {name}"
        text = f"{text[: match.start()]}{match[1]}{table}\n{match[2]}{text[match.end() :]}"
    return text


if __name__ == "__main__":
    GUIDE.write_text(written(GUIDE.read_text()))
