"""Agents compared on accuracy tables, whose optimum is known."""
