"""Accuracy tables: measuring, verifying and describing them."""
