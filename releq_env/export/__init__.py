"""Files of quantized networks for use elsewhere."""

from releq_env.export.packed import load_packed, packed_size, save_packed

__all__ = ["load_packed", "packed_size", "save_packed"]
