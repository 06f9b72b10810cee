"""What somebody else might add, each in a file of its own that needs nothing but the package."""
