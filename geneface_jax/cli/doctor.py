"""Shows what is installed, what will run where, what is missing, and the command that mends it (exit code 1 when it is needed)."""

from __future__ import annotations

import argparse

PIPE_WIDTH = 160
"""Columns where no terminal says how many there are."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb has no options."""


def run(args: argparse.Namespace) -> int:
    """Runs the verb."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from geneface_jax.doctor import examine, healthy

    checks = list(examine())
    table = Table(title="geneface doctor", title_justify="left")
    table.add_column("")
    table.add_column("what")
    table.add_column("found", overflow="fold")
    table.add_column("mend it with", overflow="fold")
    for check in checks:
        mark = Text("ok", "green") if check.ok else Text("MISSING", "bold red") if check.needed else Text("-", "yellow")
        table.add_row(mark, Text(check.name), Text(check.found), Text(check.remedy))
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPE_WIDTH)
    console.print(table)
    if healthy(checks):
        print("Everything the main job needs is here.")
        return 0
    print("Something needed is missing: the last column says what to type.")
    return 1
