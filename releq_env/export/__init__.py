"""Files of quantized networks for use elsewhere."""

from releq_env.export.about import About
from releq_env.export.folder import save_model
from releq_env.export.packed import load_packed, packed_size, read_about, save_packed

__all__ = ["About", "load_packed", "packed_size", "read_about", "save_model", "save_packed"]
