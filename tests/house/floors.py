"""Which file may import which: the floors of the house, and what a file imports."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FLOORS: tuple[tuple[str, ...], ...] = (
    # What everybody needs.
    (
        "releq_env.errors",
        "releq_env.layer_info",
        "releq_env.paths",
        "releq_env.files",
        "releq_env.locks",
        "releq_env.lazy",
        "releq_env.seeds",
        "releq_env.command",
        "releq_env.choices",
        "releq_env.cost",
        "releq_env.reward",
        "releq_env.observation",
        "releq_env.render",
    ),
    ("releq_env.report",),
    # From an assignment to an accuracy.
    ("releq_env.arithmetic", "releq_env.devices"),
    ("releq_env.quantization",),
    ("releq_env.tasks",),
    ("releq_env.retraining",),
    ("releq_env.export",),
    ("releq_env.workers",),
    ("releq_env.evaluation",),
    ("releq_env.tables",),
    # The decision.
    ("releq_env.problem",),
    ("releq_env.making",),
    ("releq_env.sensitivity",),
    ("releq_env.decision",),
    ("releq_env.env", "releq_env.vector_env", "releq_env.sb3_vec_env", "releq_env.wrappers"),
    ("releq_env.searchers",),
    ("releq_env.finalizing",),
    ("releq_env", "releq_env.registration", "releq_env.testing"),
    # What learns on it.
    ("agents.algorithms",),
    ("agents.run", "agents.report"),
    ("agents",),
    ("benchmarks",),
    ("examples",),
)
"""From the bottom up. A name stands for the module and all beneath it that is not named itself."""

WITHOUT_TORCH = (
    *FLOORS[0],
    "releq_env.report",
    "releq_env.quantization.registry",
    "releq_env.tables",
    "releq_env.problem",
    "releq_env.making",
    "releq_env.sensitivity.of_problem",
    "releq_env.decision",
    "releq_env.env",
    "releq_env.vector_env",
    "releq_env.wrappers",
    "releq_env.searchers",
    "releq_env.registration",
)
"""Neither these nor what they import when they are imported may need torch."""

_REFERENCE = re.compile(r"(releq_env|agents|benchmarks|examples)(\.\w+)+(:[\w.]+)?")


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Return the file of every module by its name."""
    found = {}
    for package in ("releq_env", "agents", "benchmarks", "examples"):
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def floor(module: str) -> int:
    """Return the floor of a module.

    Raises:
        KeyError: If it has none.
    """
    floors = {name: index for index, names in enumerate(FLOORS) for name in names}
    if module in floors:
        return floors[module]
    while "." in module:  # by its longest prefix; but "releq_env" stands for itself alone
        module = module.rpartition(".")[0]
        if module in floors and module != "releq_env":
            return floors[module]
    raise KeyError(module)


def imported(module: str, path: Path, at_import: bool = False) -> set[str]:
    """Return the dotted names that a file imports, lazily or not, or names in a string for somebody to import.

    Args:
        module: Its name.
        path: The file.
        at_import: Whether to return only what is imported the moment the file is.
    """
    found: set[str] = set()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in _nodes(ast.parse(path.read_text()), lazy=not at_import):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{name}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and not at_import and _REFERENCE.fullmatch(str(node.value)):
            found.add(str(node.value).replace(":", "."))
    return found


def arrows(root: Path = ROOT, at_import: bool = False) -> dict[str, set[str]]:
    """Return of every module the modules of the project that it imports; a package's `__init__` counts."""
    known = modules(root)
    return {
        module: {
            target
            for name in imported(module, path, at_import)
            for target in _met(name, known)
            # A package's parts are imported through it, and it may import them.
            if target != module and not _inside(module, target, name, known)
        }
        for module, path in known.items()
    }


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return modules that import one another in a circle; nothing if there are none."""
    left = {module: set(targets) for module, targets in graph.items()}
    while leaves := [module for module, targets in left.items() if not targets]:
        left = {module: targets.difference(leaves) for module, targets in left.items() if module not in leaves}
    if not left:
        return []
    path = [min(left)]  # everything that is left leads into a circle
    while path.count(path[-1]) == 1:
        path.append(min(left[path[-1]]))
    return path[path.index(path[-1]) :]


def _nodes(node: ast.AST, lazy: bool) -> Iterator[ast.AST]:
    """Yield what is executed, without what is there for type checkers only."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        children: list[ast.AST] = list(node.orelse)
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not lazy:
        children = []
    else:
        children = list(ast.iter_child_nodes(node))
    yield node
    for child in children:
        yield from _nodes(child, lazy)


def _met(name: str, known: dict[str, Path]) -> Iterator[str]:
    """Yield the modules of the project that importing a dotted name imports: its packages too."""
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        module = ".".join(parts[:length])
        if module in known:
            yield module


def _inside(module: str, target: str, name: str, known: dict[str, Path]) -> bool:
    """Whether `target` is met only because it is a package around both."""
    deepest = list(_met(name, known))[-1]
    return target != deepest and (target == "releq_env" or f"{module}.".startswith(f"{target}."))
