"""The work of each command, once its arguments have been accepted.

May import `runs`, `views`, `analysis`, `data`, `functional`, `config`, `system`, `errors`.
Read first: `evaluation.run`.
"""
