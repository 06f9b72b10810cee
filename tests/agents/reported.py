"""Runs to be reported, and reading what a page says."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from typing import Any

from agents.train import main
from releq_env import AccuracyTable, Problem
from releq_env.layer_info import LayerInfo
from tests.agents.problems import ENV, LAYERS, needs_bits

HOSTILE = [
    '<script>alert("1")</script>',
    "</title></style>--><b>'\"&",
    "$\\frac{1}$ {{ 7 * 7 }}",
    "\u202elayer\x07 \U0001f9ea",
]
_VOID = {"meta", "br", "hr", "img", "input", "link"}


def table(layers: list[LayerInfo] = LAYERS) -> Problem:
    """A quantizer's problem without a network: its bitwidths are sizes, and it has unseen seeds."""
    assignments = list(product([1, 2, 3, 4], repeat=4))
    seeds = [seed for seed in range(3) for _ in assignments]
    accuracies = [
        round(needs_bits(bits) - 0.001 * (seed * sum(bits) % 7), 6) for seed in range(3) for bits in assignments
    ]
    records = AccuracyTable.from_records(
        assignments * 3,
        accuracies,
        seeds=seeds,
        full_precision_accuracy=0.98,
        layers=layers,
        quantizer="lsq",
        name="measured",
    )
    return Problem.from_table(records)


def hostile() -> Problem:
    """The same with layers whose names try to be something else."""
    named = zip(HOSTILE, LAYERS, strict=True)
    return table([LayerInfo(**{**vars(layer), "name": name}) for name, layer in named])


def run(folder: Path, problem: str, *options: str, algo: str = "random") -> Path:
    """Run a search over a problem of this module or of `problems`, and return its folder."""
    name = problem if ":" in problem else f"tests.agents.reported:{problem}"
    main(
        [
            "--algo",
            algo,
            "--timesteps",
            "160",
            "--log-dir",
            str(folder),
            "--env",
            ENV,
            *options,
            "--env-kwargs",
            f"problem={name}",
        ]
    )
    return folder


@dataclass
class Page(HTMLParser):
    """What is in a page: tags with their attributes, text, the rows of its tables by section."""

    text: str = ""
    sections: dict[str, str] = field(default_factory=dict)
    tags: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    rows: dict[str, list[list[str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[str] = []
        self._section = ""

    @classmethod
    def read(cls, path: Path) -> "Page":
        page = cls()
        page.feed(path.read_text(encoding="utf-8"))
        page.close()
        assert page._open == []  # every element is closed
        return page

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)
        if tag == "section":
            self._section = dict(attrs)["id"]
        elif tag == "tr":
            self.rows.setdefault(self._section, []).append([])
        elif tag in ("td", "th"):
            self.rows[self._section][-1].append("")

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        said = re.sub(r"[\s\u00a0]+", " ", data)
        self.text += said
        self.sections[self._section] = self.sections.get(self._section, "") + said
        if "td" in self._open or "th" in self._open:
            self.rows[self._section][-1][-1] += said
