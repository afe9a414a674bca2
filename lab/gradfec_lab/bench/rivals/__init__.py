"""`gradfec bench rivals`: gradfec beside JPEG and video. `command` is the command, `registry` has the rivals."""
