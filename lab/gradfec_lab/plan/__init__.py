"""`gradfec plan`: where to split a network, by measurement."""
