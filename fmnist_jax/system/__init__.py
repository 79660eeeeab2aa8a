"""The machine under a run: files written atomically, locks, memory, compiler options, and a description of it all.

May import `errors`. Knows nothing about models, data sets or runs.
Read first: `storage.write_atomically`.
"""
