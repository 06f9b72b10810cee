"""How an option of a command says in the help what leaving it out stands for."""

from typing import Any

import tyro


def optional(metavar: str, default: str) -> Any:
    """Return the annotation of an option whose default is said in words."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=f"(default: {default})")
