#!/bin/sh
# The bad link between edge and cloud. gradfec-netem relays. If the kernel has netem, that loses the datagrams to the
# cloud; otherwise the relay itself does. One line says which.
#
#   GRADFEC_LOSS       share of the datagrams to lose: 20% or 0.2
#   GRADFEC_BURST      mean length of a burst of losses, in datagrams; empty: independent losses
#   GRADFEC_DELAY_MS   delay
#   GRADFEC_JITTER_MS  how much the delay varies either way, uniformly
#   GRADFEC_CLOUD      HOST:PORT of the cloud
#   GRADFEC_LISTEN     port for the edges
set -eu
export LC_ALL=C  # numbers with a decimal point, not a comma

export GRADFEC_LOSS="${GRADFEC_LOSS:-20%}" GRADFEC_BURST="${GRADFEC_BURST:-}"
export GRADFEC_DELAY_MS="${GRADFEC_DELAY_MS:-0}" GRADFEC_JITTER_MS="${GRADFEC_JITTER_MS:-0}"
cloud=${GRADFEC_CLOUD:-cloud:9000}
host=${cloud%:*} port=${cloud##*:}
listen=${GRADFEC_LISTEN:-9001}

LOOK_AGAIN_S=2            # a restarted cloud may have another address
QUEUE_DATAGRAMS=100000    # netem's default of 1000 overflows with a delay of 50 ms, and then loses more than asked
relay='' nap='' shaped=''

say() { echo "link: $*" >&2; }

# Print netem's words for the parameters, or say what is wrong with them. The limits are those of gradfec-netem.
netem_words() {
    awk -v queue="$QUEUE_DATAGRAMS" '
    function refuse(text) { print "link: error: " text | "cat >&2"; close("cat >&2"); exit 2 }
    function number(name) {
        if (ENVIRON[name] !~ /^([0-9]+\.?[0-9]*|\.[0-9]+)$/)
            refuse(name "=" ENVIRON[name] " is not a number, at least 0")
        return ENVIRON[name] + 0
    }
    function milliseconds(name,    value) {
        value = number(name)
        if (value > 60000) refuse(name "=" ENVIRON[name] " is more than 60000 ms")
        return value
    }
    BEGIN {
        text = ENVIRON["GRADFEC_LOSS"]
        loss = text + 0
        if (text ~ /%$/) loss /= 100
        if (text !~ /^([0-9]+\.?[0-9]*|\.[0-9]+)%?$/ || loss > 1)
            refuse("GRADFEC_LOSS=" text " is not a share of the datagrams: write it as 20% or as 0.2")
        words = sprintf("loss %.6f%%", 100 * loss)
        if (ENVIRON["GRADFEC_BURST"] != "") {
            burst = number("GRADFEC_BURST")
            if (burst < 1) refuse("GRADFEC_BURST=" burst ": a run of losses has at least 1 datagram")
            if (loss == 1) refuse("at 100% loss a burst never ends: leave out GRADFEC_BURST")
            # Gilbert-Elliott: bursts last 1 / r, and p / (p + r) of the datagrams are lost.
            p = loss / (burst * (1 - loss))
            if (p > 1 + 1e-9)
                refuse(sprintf("a mean loss of %g%% in bursts of %g is impossible: at least one datagram arrives " \
                    "between two bursts, so such bursts lose at most %.2f%%; make GRADFEC_BURST at least %.2f, or " \
                    "GRADFEC_LOSS lower", 100 * loss, burst, 100 * burst / (1 + burst), int(100 * loss / (1 - loss) + 0.9999) / 100))
            words = sprintf("loss gemodel %.6f%% %.6f%%", 100 * (p < 1 ? p : 1), 100 / burst)
        }
        delay = milliseconds("GRADFEC_DELAY_MS")
        jitter = milliseconds("GRADFEC_JITTER_MS")
        if (jitter > delay)
            refuse("GRADFEC_JITTER_MS=" jitter " around GRADFEC_DELAY_MS=" delay " would deliver datagrams before " \
                "they were sent: make the delay at least as large")
        if (delay) words = words sprintf(" delay %.3fms %.3fms", delay, jitter)
        print words " limit " queue
    }'
}

# What was asked for, in words.
parameters() {
    text="loses $GRADFEC_LOSS of the datagrams to the cloud"
    [ -z "$GRADFEC_BURST" ] || text="$text in bursts of $GRADFEC_BURST"
    [ "$GRADFEC_DELAY_MS" = 0 ] || text="$text, delays them by $GRADFEC_DELAY_MS +- $GRADFEC_JITTER_MS ms"
    echo "$text"
}

addresses() { getent ahostsv4 "$host" | awk '!seen[$1]++ { print $1 }'; }

# Sleep, but handle a signal at once: a shell finishes a command in the foreground first.
rest() {
    sleep "$1" &
    nap=$!
    wait "$nap" || true
    nap=''
}

find_cloud() {
    waiting=''
    until address=$(addresses | head -n 1) && [ -n "$address" ]; do
        [ -n "$waiting" ] || say "waiting for a host named $host"
        waiting=yes
        rest "$LOOK_AGAIN_S"
    done
}

# Put netem on the interface towards the cloud; replies leave through another one and stay clean. False without netem.
shape() {
    device=$(ip -o route get "$address" | sed -n 's/.* dev \([^ ]*\).*/\1/p')
    # shellcheck disable=SC2086  # words
    if ! refusal=$(tc qdisc replace dev "$device" root netem $words 2>&1); then
        case $refusal in
            *"kind is unknown"*) say "this kernel has no netem, so the injector (gradfec-netem) $(parameters)" ;;
            *) say "no netem here (tc: $refusal), so the injector (gradfec-netem) $(parameters)" ;;
        esac
        return 1
    fi
    shaped=$device
    # netem loses a segmentation-offload super-packet as one packet. These switches do not make the kernel split a
    # UDP_SEGMENT send before the qdisc, but the relay makes one call for each datagram, so it never sends one.
    for feature in tso gso tx-udp-segmentation; do
        ethtool -K "$device" "$feature" off >/dev/null 2>&1 || say "warning: cannot switch off $feature on $device"
    done
    say "netem on $device $(parameters) ($words); the relay itself loses nothing"
}

stop_relay() {
    [ -n "$relay" ] || return 0
    kill "$relay" 2>/dev/null || true
    wait "$relay" || true
    relay=''
}

unshape() {
    [ -z "$shaped" ] || tc qdisc del dev "$shaped" root || true
    shaped=''
}

leave() {
    trap '' TERM INT HUP
    [ -z "$nap" ] || kill "$nap" 2>/dev/null || true
    stop_relay
    unshape
}

words=$(netem_words) || exit 2
trap leave EXIT
trap 'exit 0' TERM INT HUP

while :; do
    find_cloud
    set -- --listen "$listen" --to "$address:$port"
    if ! shape; then
        set -- "$@" --loss "$GRADFEC_LOSS" --delay "$GRADFEC_DELAY_MS" --jitter "$GRADFEC_JITTER_MS"
        [ -z "$GRADFEC_BURST" ] || set -- "$@" --burst "$GRADFEC_BURST"
    fi
    gradfec-netem "$@" &
    relay=$!
    while rest "$LOOK_AGAIN_S"; do
        if ! kill -0 "$relay" 2>/dev/null; then
            code=0
            wait "$relay" || code=$?
            relay=''
            say "error: the relay has ended (exit code $code)"
            exit 1
        fi
        found=$(addresses)
        if [ -n "$found" ] && ! echo "$found" | grep -qxF "$address"; then
            say "$host is no longer at $address"
            stop_relay
            unshape
            break
        fi
    done
done
