"""One run and its directory: the loop, checkpoints, signals, the log, and what a finished run leaves behind.

May import `views`, `analysis`, `data`, `functional`, `config`, `system`, `errors`. Computes nothing that a pure
function could.
Read first: `loop.run`.
"""
