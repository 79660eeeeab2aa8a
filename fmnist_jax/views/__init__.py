"""Turns arrays into pictures, tables and the report: returns a figure, a table or text, and writes no file.

May import `analysis`, `data`, `functional`, `config`, `system`, `errors`.
Read first: `scores.curves`.
"""
