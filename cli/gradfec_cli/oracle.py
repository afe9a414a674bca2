"""What the lab's own are called among the estimators; here, because `gradfec_cli.gradcam` takes seconds to import."""

ORACLE = "gradcam"
BY_LABEL = "gradcam-label"  # of the label's class instead of the network's own, which leaks the label
UNCOMPENSATED = "-uncompensated"  # after the name of a proxy: its ranking alone, nothing stands in for what is dropped
