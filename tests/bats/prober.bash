# shellcheck shell=bash
# shellcheck disable=SC2154 # set by lib.bash
# Who answers and who asks: servers that say their name, connections that note it, and the prober,
# the witness of the suites. Read by lib.bash.

# ---- servers, clients ----

# serve POD NAME PORT…: a server that answers NAME on every address of the pod.
serve() {
    local pod=$1 name=$2
    shift 2
    server "$name" pod_exec "$pod" --listen "$name" "$@"
}

# leak PORT…: the server that gets what nobody steered.
leak() {
    server leak node_exec --listen leak "$@"
}

# waypoint POD NAME PORT…: a server that takes Kmesh's metadata first.
waypoint() {
    local pod=$1 name=$2
    shift 2
    server "$name" pod_exec "$pod" --waypoint "$name" "$@"
}

server() {
    local log=$1 place=() option=() port
    shift
    while [[ $1 != --* ]]; do
        place+=("$1")
        shift
    done
    for port in "${@:3}"; do
        option+=("$1" "0.0.0.0:$port=$2" "$1" "[::]:$port=$2")
    done
    bg "server-$log" "${place[@]}" "$KMESH_BIN/kmesh-prober" serve "${option[@]}" \
        --ready "$W/ready/$log"
    eventually 5 test -e "$W/ready/$log"
}

# names POD ADDR:PORT COUNT: who answers, one line each (or `error: …`).
names() {
    in_pod "$1" "$KMESH_BIN/kmesh-prober" names "$2" --count "$3"
}

# answered_by POD ADDR:PORT COUNT NAME…: each of COUNT connections is answered by one of the
# names, and each of the names answers at least one.
answered_by() {
    local pod=$1 target=$2 count=$3 got
    shift 3
    got=$(names "$pod" "$target" "$count" | sort -u)
    [ "$got" = "$(printf '%s\n' "$@" | sort -u)" ] || {
        echo "$target was answered by: ${got//$'\n'/, }; expected: $*" >&2
        return 1
    }
}

# ---- the prober ----

# prober_start POD TARGET…: TARGET is LABEL=ADDR:PORT=NAME,NAME…; options may stand among them.
prober_start() {
    local pod=$1
    shift
    rm -f "$W/prober.sock"
    bg prober pod_exec "$pod" "$KMESH_BIN/kmesh-prober" run --control "$W/prober.sock" "$@"
    eventually 5 prober_tell report
}

# prober_tell expect LABEL NAME,NAME… | report | reset
prober_tell() {
    "$KMESH_BIN/kmesh-prober" tell "$W/prober.sock" "$@"
}

# Has the prober opened so many connections?
prober_opened() {
    prober_tell report | jq -e --argjson least "$1" '.connections >= $least' >/dev/null
}

# Ends the prober once it has opened the given number of connections (a slow machine takes longer:
# that is no fault), and fails unless it saw nothing wrong; its report is left in $W/prober.json.
prober_stop() {
    local least=${1-1}
    eventually 60 prober_opened "$least" || true
    prober_tell stop >"$W/prober.json" || { cat "$W/prober.json"; return 1; }
    stop_bg prober
    cat "$W/log/prober" >&2
    jq -e --argjson least "$least" '.connections >= $least and .failed == 0 and .misrouted == 0
        and .ungoverned == 0 and .broken == 0' "$W/prober.json" >/dev/null || {
        cat "$W/prober.json" >&2
        return 1
    }
}
