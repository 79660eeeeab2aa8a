"""The core, what research code imports: networks, augmentations, optimisers, the training step, evaluation.

May import `config`, `errors`. Pure functions alone: no file, clock, print or hidden state, nothing jitted on import.
Read first: `train_step.make_train_step`.
"""
