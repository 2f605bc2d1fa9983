# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # set by lib.bash; used by the suites
# Traffic for the suites of the data plane: servers that say what they heard, clients that connect
# in awkward ways, tables written by `kmeshctl restore`, counters. Stands on lib.bash.
#
# The daemon enrols the pods and is killed; from then on the tables are what the test restores, and
# the programs alone are at work.

TRAFFIC=$KMESH_BIN/kmesh-traffic

# ---- pods ----

# hear POD NAME PORT… [-- OPTION…]: a server at all addresses of both families; PORT or udp:ADDR:PORT.
# Pod `leak` is the node outside the governed cgroup: it gets what nobody steered.
hear() {
    local where=(pod_exec "$1") name=$2 options=(--name "$2" --ready "$W/ready/$2")
    [ "$1" != leak ] || where=(node_exec)
    shift 2
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        case $1 in
        udp:*) options+=(--udp "${1#udp:}") ;;
        *) options+=(--listen "0.0.0.0:$1" --listen "[::]:$1") ;;
        esac
        shift
    done
    bg "hear-$name" "${where[@]}" "$TRAFFIC" hear "${options[@]}" "${@:2}"
    eventually 5 test -e "$W/ready/$name"
}

# dial POD ADDR:PORT [OPTION…]: one connection; prints what became of it.
dial() {
    local pod=$1
    shift
    in_pod "$pod" timeout 30 "$TRAFFIC" dial "$@"
}

# reaches NAME HEX POD ADDR:PORT [OPTION…]: NAME answers, and heard exactly this.
reaches() {
    local name=$1 hex=$2 got
    shift 2
    got=$(dial "$@")
    [[ $got == "$name from "*" heard $hex peer "* ]] || fail "expected $name to hear $hex, but: $got"
}

# ends TEXT POD ADDR:PORT [OPTION…]: the attempt ends with this error.
ends() {
    local text=$1 got
    shift
    got=$(dial "$@")
    [[ $got == "$text"* ]] || fail "expected '$text', but: $got"
}

# enrol POD…: the daemon makes them managed, then it is killed. `POD:bypass` is bypassed. Options
# of the daemon in DAEMON_OPTIONS.
enrol() {
    local pod
    for pod in "$@"; do
        jq -n --arg pod "${pod%:*}" --arg bypass "${pod#"${pod%:*}"}" --arg netns "$W/netns/${pod%:*}" \
            --arg ips "$(<"$W/addresses/${pod%:*}")" '{
                uid: "Kubernetes//Pod/default/\($pod)", name: $pod, namespace: "default",
                serviceAccount: $pod, node: "node1", workloadIps: ($ips | split(" ") | map(select(. != ""))),
                services: {}, netns: $netns} + if $bypass == ":bypass" then {bypass: true} else {} end'
    done | jq -s '{workloads: .}' | mesh
    # shellcheck disable=SC2086 # words
    daemon_up ${DAEMON_OPTIONS-}
    daemon_stop KILL
}

# ---- tables ----

# tables_begin; then workload, waypoint, service, policy, settings; then tables_end puts them in force.
tables_begin() {
    : >"$W/policies.json"
    : >"$W/services.json"
    : >"$W/workloads.json"
    echo '{"metadata": "tlv", "peername": false, "exemptPorts": []}' >"$W/settings.json"
}

# workload POD [JSON]: by the pod's addresses.
workload() {
    jq -n --arg pod "$1" --arg ips "$(<"$W/addresses/$1")" --argjson more "${2-"{}"}" '
        ($ips | split(" ") | map(select(. != ""))) as $all | {
            uid: "Kubernetes//Pod/default/\($pod)", addresses: ($all | sort),
            v4: ($all | map(select(contains(".")))[0]),
        } + ($all | map(select(contains(":"))) | if . == [] then {} else {v6: .[0]} end) + $more' >>"$W/workloads.json"
}

# service NAME VIP PORT ENDPOINTS [JSON]: ENDPOINTS are words POD:PORT or POD:PORT:FAMILY, of the
# VIP's family if not said.
service() {
    record service "$@"
}

# waypoint NAME FAMILY PORT ENDPOINTS [JSON]
waypoint() {
    record waypoint "$@"
}

record() {
    local kind=$1 name=$2 place=$3 port=$4 endpoints=$5 more=${6-"{}"}
    jq -n --arg kind "$kind" --arg name "default/$name" --arg place "$place" --argjson port "$port" \
        --arg endpoints "$endpoints" --argjson more "$more" '
        (if $kind == "waypoint" then $place elif ($place | contains(":")) then "ipv6" else "ipv4" end) as $family | {
            name: $name, port: $port, family: $family, kind: $kind, synced: true,
            vips: (if $kind == "waypoint" then [] else [$place] end),
            endpoints: ($endpoints | split(" ") | map(select(. != "") | split(":") | {
                workload: "Kubernetes//Pod/default/\(.[0])", port: (.[1] | tonumber), family: (.[2] // $family)})),
        } + $more' >>"$W/services.json"
}

# policy NAME ACTION RULES: of namespace default; RULES is JSON
policy() {
    jq -n --arg name "$1" --arg action "$2" --argjson rules "$3" '{name: $name, namespace: "default",
        scope: "Namespace", action: $action, rules: $rules}' >>"$W/policies.json"
}

# account NAME [NAMESPACE]: the words of a workload that has this identity
account() {
    jq -nc --arg identity "cluster.local/ns/${2-default}/sa/$1" '{identity: $identity}'
}

# by NAME PORT: the words of a service or workload that names this waypoint
by() {
    jq -nc --arg name "default/$1" --argjson port "$2" '{waypoint: {name: $name, port: $port}}'
}

# settings JSON
settings() {
    jq --argjson more "$1" '. + $more' "$W/settings.json" >"$W/settings.new"
    mv "$W/settings.new" "$W/settings.json"
}

tables_end() {
    jq -n --slurpfile services "$W/services.json" --slurpfile workloads "$W/workloads.json" \
        --slurpfile settings "$W/settings.json" --slurpfile policies "$W/policies.json" '{
            schemaVersion: 2, settings: $settings[0], policies: ($policies | sort_by(.name)),
            services: ($services | sort_by(.name, .port, .family, .kind)),
            workloads: ($workloads | sort_by(.uid))}' >"$W/tables.json"
    ctl restore "$W/tables.json" >"$W/log/restore" 2>&1 || { cat "$W/log/restore" >&2; return 1; }
}

# ---- counters ----

# "name value" of each counter that is not zero, by the enumerators of layout.h.
counters() {
    bpftool -j map dump pinned "$KMESH_BPF_ROOT/maps/kmesh_stats" | jq -r '
        def byte: ascii_downcase | ltrimstr("0x") | explode
            | map(if . > 57 then . - 87 else . - 48 end) | .[0] * 16 + (.[1] // 0);
        def number: to_entries | map((.value | if length == 3 then "0x0" + .[2:] else . end | byte) * pow(256; .key)) | add;
        .[] | "\(.key | number) \(.values | map(.value | number) | add)"' |
        while read -r index value; do
            [ "$value" -eq 0 ] || echo "$(counter_name "$index") $value"
        done
}

counter_name() {
    sed -n "s/^\tKMESH_C_\([A-Z0-9_]*\) = $1,.*/\L\1/p" "$REPOSITORY/bpf/prog/layout.h"
}

# Notes the counters; `counted` compares with what was noted.
count_from() {
    { echo "noted 1"; counters; } >"$W/counters"
}

# counted NAME=N…: since count_from, these counters grew by so much, and no other did. That pods
# without policies were asked counts only where it is named.
counted() {
    local want got quiet=auth_none
    [[ $* != *auth_none* ]] || quiet=
    want=$(printf '%s\n' "$@" | sed '/^$/d' | sort)
    got=$(counters | awk -v quiet="$quiet" 'NR == FNR { before[$1] = $2; next }
        $2 != before[$1] && $1 != quiet { print $1 "=" $2 - before[$1] }' "$W/counters" - | sort)
    [ "$want" = "$got" ] || fail "counted: ${got//$'\n'/ }; expected: ${want//$'\n'/ }"
}

# sockets: how many are in map_of_kmesh_socket
sockets() {
    bpftool map dump pinned "$KMESH_BPF_ROOT/maps/map_of_kmesh_socket" | grep -c '^key' || true
}

no_sockets() {
    [ "$(sockets)" -eq 0 ]
}
