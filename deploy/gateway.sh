#!/bin/sh
# Start the cloud as a gateway to the Ray cluster at $GRADFEC_RAY. This container becomes a machine of the cluster, without
# workers, as often as that is necessary; the cloud does not wait for it.
set -eu
while :; do
    ray start --address "$GRADFEC_RAY" --num-cpus 0 --object-store-memory 200000000 --disable-usage-stats --block || true
    sleep 2
done >/dev/null 2>&1 &
exec sh /usr/local/bin/cloud.sh --workers ray "$@"
