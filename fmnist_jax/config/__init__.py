"""The configuration of a run: frozen dataclasses of plain values, the presets, and their validation.

May import `errors`. Imports neither JAX nor any other package, so that a bad configuration is refused before a backend
starts.
Read first: `schema.Config`.
"""
