"""The tools that are compared. One more is a file with one function, and a line here."""

from benchmarks.vendors.vendor import Vendor

OURS = "releq_env"

VENDORS: dict[str, Vendor] = {
    OURS: Vendor(
        "releq_env.search",
        "benchmarks.vendors.ours:choose",
        tuple(range(1, 9)),
        "packed safetensors of the short retraining",
    ),
    "modelopt": Vendor(
        "NVIDIA ModelOpt auto_quantize",
        "benchmarks.vendors.modelopt:choose",
        tuple(range(2, 9)),
        "modelopt.torch.opt.save, layers of 8 bits compressed",
        ("modelopt",),
        "nvidia-modelopt requests huggingface_hub",
    ),
    "mct": Vendor(
        "Sony MCT mixed precision",
        "benchmarks.vendors.mct:choose",
        tuple(range(1, 9)),
        "TorchScript with rounded float32 weights",
        ("model_compression_toolkit",),
        "model-compression-toolkit",
    ),
    "aimet": Vendor(
        "Qualcomm AIMET automatic mixed precision",
        "benchmarks.vendors.aimet:choose",
        tuple(range(2, 9)),
        "ONNX with integer weights of 4 or 8 bits",
        ("aimet_torch",),
        "aimet-torch",
    ),
}
"""By name. Others add their own: nothing else lists tools."""
