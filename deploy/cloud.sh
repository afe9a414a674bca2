#!/bin/sh
# The cloud, with a key of its own making where there is none yet, and it is not told of others. The edges need the same one: they share its volume,
# or get it from `gradfec keygen --show` in this container.
set -eu
case " $*" in
*" --key-file"* | *" --keys"* | *" --insecure"*) ;;
*) [ -e "$GRADFEC_KEY_FILE" ] || gradfec keygen >&2 ;;
esac
exec gradfec-cloud "$@"
