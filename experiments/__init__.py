"""Experiments built only on what the package exports: each is an example of how to build on it."""
