"""Analysis of logits, labels, weights and data sets: pure functions of arrays that read no files and plot nothing.

May import `functional`, `config`, `errors`.
Read first: `assessment.assess`.
"""
