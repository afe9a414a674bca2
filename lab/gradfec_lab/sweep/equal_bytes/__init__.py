"""`gradfec sweep protection --bytes`: each codec with its best plan at equal bytes, headers, seals and parity included.

The plans are chosen on images for tuning: for each codec, number of bytes and link, the best of a small grid.
"""
