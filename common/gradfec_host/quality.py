"""How finely a bottleneck's latents are rounded: numbers for the user, from coarse to fine."""

QUALITIES = range(1, 10)
DEFAULT_QUALITY = 3  # of the shipped one, finer ones gain nothing

MEAN_FROM = 4000  # --bytes-per-frame: from here on a mean, with second looks; fewer leave nothing for them
