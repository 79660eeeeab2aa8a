"""Where images come from: Fashion-MNIST through TFDS, synthetic garments, users' own files and pictures.

May import `functional`, `config`, `system`, `errors`. Knows nothing about models and runs.
Read first: `dataset.load`.
"""
