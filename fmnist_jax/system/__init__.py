"""The machine under a run: files written whole, locks, memory, compiler options, and what all of it is.

May import `errors`. Knows nothing of models, data sets and runs.
Read first: `storage.write_whole`.
"""
