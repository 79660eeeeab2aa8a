"""What can be asked of a run: frozen dataclasses of plain values, the presets, and what no run could have.

May import `errors`. No JAX nor any other package, so that a bad configuration is refused before a backend starts.
Read first: `schema.Config`.
"""
