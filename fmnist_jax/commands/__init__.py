"""The work behind each door: what a command does once its arguments have been accepted.

May import `runs`, `views`, `analysis`, `data`, `functional`, `config`, `system`, `errors`.
Read first: `evaluation.run`.
"""
