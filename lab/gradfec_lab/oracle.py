"""What the oracle is called among the estimators; here, because `gradfec_lab.gradcam` takes seconds to import."""

ORACLE = "gradcam"
BY_LABEL = "gradcam-label"  # of the label's class instead of the network's own, which leaks the label
