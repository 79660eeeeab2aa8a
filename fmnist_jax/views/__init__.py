"""Arrays to pictures, tables and the report: what comes back is a figure, a table or a text, and no file is written.

May import `analysis`, `data`, `functional`, `config`, `system`, `errors`.
Read first: `scores.curves`.
"""
