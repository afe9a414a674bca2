#!/bin/sh
# Start the cloud. If no option names a key and there is none yet, make one. The edges need the same key: they share its
# volume, or get it from `gradfec keygen --show` in this container.
set -eu
case " $*" in
*" --key-file"* | *" --keys"* | *" --insecure"*) ;;
*) [ -e "$GRADFEC_KEY_FILE" ] || gradfec keygen >&2 ;;
esac
exec gradfec-cloud "$@"
