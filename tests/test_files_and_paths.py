from pathlib import Path

import pytest

from releq_env.errors import ReLeQError
from releq_env.files import replace_file
from releq_env.paths import cache_folder, data_folder, expanded


@pytest.mark.parametrize("content", ["text", b"bytes"])
def test_replaces_what_was_there(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    replace_file(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)


def test_interruption_leaves_the_old_content_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        replace_file(path, "new")
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["file"]
    assert path.read_text() == "old"


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RELEQ_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("RELEQ_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert "releq_env" in str(cache_folder())


def test_data_folder_by_argument_then_variable_then_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RELEQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RELEQ_DATA", str(tmp_path / "data"))
    assert data_folder(str(tmp_path / "given")) == tmp_path / "given"
    assert data_folder() == tmp_path / "data"
    monkeypatch.delenv("RELEQ_DATA")
    assert data_folder() == tmp_path / "cache" / "data"


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_folder("~/images") == tmp_path / "images"


def test_a_home_in_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RELEQ_CACHE", "~/cache")
    assert cache_folder() == tmp_path / "cache"
    with pytest.raises(ReLeQError, match="the home folder in '~nobody-here/x' is not known"):
        expanded("~nobody-here/x")
