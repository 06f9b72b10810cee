import pytest
import torch

from releq_env.devices import PRECISIONS, instruction_set, resolve_device, resolve_precision
from releq_env.errors import ReLeQError

CPU = torch.device("cpu")


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


def test_cpu() -> None:
    assert resolve_device("cpu") == CPU
    assert resolve_device(CPU) == CPU


def test_auto_is_the_cpu_without_cuda(no_cuda: None) -> None:
    assert resolve_device("auto") == CPU


def test_auto_is_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto").type == "cuda"


@pytest.mark.parametrize("device", ["cuda", "cuda:0", torch.device("cuda", 1)])
def test_cuda_without_one(no_cuda: None, device: str) -> None:
    with pytest.raises(ReLeQError, match=r"cuda.*finds no such CUDA device; use device='cpu' or 'auto'"):
        resolve_device(device)


def test_cuda_index_beyond_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ReLeQError, match="cuda:2"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("device", ["gpu", "", "mps", "meta", None, 1.5, []])
def test_unknown_device_is_named(no_cuda: None, device: object) -> None:
    with pytest.raises(ReLeQError, match="'cpu', 'cuda', 'cuda:N' or 'auto'") as raised:
        resolve_device(device)  # type: ignore[arg-type]
    assert repr(device) in str(raised.value)


def test_precisions() -> None:
    assert resolve_precision("fp32", CPU) == torch.float32
    assert resolve_precision("bf16", CPU) == torch.bfloat16
    assert resolve_precision("auto", CPU) in (torch.float32, torch.bfloat16)
    assert set(PRECISIONS) == {"fp32", "bf16", "auto"}


def test_auto_follows_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    for probe in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, probe, lambda: False, raising=False)
    assert resolve_precision("auto", CPU) == torch.float32
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert resolve_precision("auto", CPU) == torch.bfloat16


def test_unknown_precision_is_named() -> None:
    with pytest.raises(ReLeQError, match="unknown precision 'int4'.*auto, fp32, bf16"):
        resolve_precision("int4", CPU)


def test_processors_that_round_differently_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {instruction_set(), instruction_set(CPU)}
    assert len(seen) == 1
    for amx in (True, False):
        for capability in ("AVX2", "AVX512"):
            monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx, raising=False)
            monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda capability=capability: capability)
            seen.add(instruction_set())
    assert len(seen) in (4, 5)  # this processor may be one of the four
