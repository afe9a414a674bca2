"""Training a bottleneck, with PyTorch and numpy alone: `python -m codec JOB` runs in a copy of this folder.

`gradfec train-codec` makes the job, a folder with everything that the training needs, and turns its result into a codec
file.
"""
