"""Names of the oracle and of variants among the estimators; `gradfec_cli.gradcam` itself takes seconds to import."""

ORACLE = "gradcam"
BY_LABEL = "gradcam-label"  # explains the label's class instead of the network's own answer; this leaks the label
UNCOMPENSATED = "-uncompensated"  # after a proxy's name: only its ranking, without compensation
