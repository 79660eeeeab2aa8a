"""What logits, labels, weights and data sets say: pure functions of arrays, which read nothing and draw nothing.

May import `functional`, `config`, `errors`.
Read first: `assessment.assess`.
"""
