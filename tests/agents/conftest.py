"""Fixtures of the tests of agents."""

import pytest

from agents.run import runner


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are not drawn: it takes longer than many a run, and others test it."""
    monkeypatch.setattr(runner, "draw", lambda *drawn: None)
