# shellcheck shell=bash
# shellcheck disable=SC2154 # set by lib.bash
# The town that the suites live in: a client, servers a, b and c, the leak; mesh files for it; and
# what restarts have in common. Stands on lib.bash.

WEB4=10.96.0.10:80
WEB6='[fd96::10]:80'

# Pods client, a, b, c (10.77.0.11 …, fd77::11 …), each of the latter answering its name at 8080.
town() {
    local name number=11
    pod client 10.77.0.2 fd77::2
    for name in a b c; do
        pod "$name" "10.77.0.$number" "fd77::$number"
        serve "$name" "$name" 8080
        number=$((number + 1))
    done
    leak 80
}

# ---- mesh files ----

# mesh_begin; then service, workload, enrolled, also, deny; then mesh_end puts the file in place.
mesh_begin() {
    echo "services:" >"$W/mesh.services"
    echo "workloads:" >"$W/mesh.workloads"
    : >"$W/mesh.policies"
    MESH_SECTION=$W/mesh.services
}

mesh_end() {
    cat "$W/mesh.services" "$W/mesh.workloads" "$W/mesh.policies" | mesh
}

# service NAME V4 [V6]: port 80 leads to 8080
service() {
    MESH_SECTION=$W/mesh.services
    cat >>"$MESH_SECTION" <<END
  - name: $1
    namespace: default
    hostname: $1.default.svc.cluster.local
    vips: ["/$2"${3:+, \"/$3\"}]
    ports: {80: 8080}
END
}

# workload POD [SERVICE…], at the pod's addresses or those in ADDRESSES
workload() {
    local name=$1 v4 v6
    shift
    MESH_SECTION=$W/mesh.workloads
    read -r v4 v6 < <(echo "${ADDRESSES:-$(<"$W/addresses/$name")}")
    cat >>"$MESH_SECTION" <<END
  - uid: Kubernetes//Pod/default/$name
    name: $name
    namespace: default
    serviceAccount: $name
    node: node1
    workloadIps: ["$v4"${v6:+, \"$v6\"}]
    services:$([ $# -gt 0 ] || echo " {}")
END
    for name in "$@"; do
        echo "      default/$name.default.svc.cluster.local: {80: 8080}" >>"$MESH_SECTION"
    done
}

# enrolled POD [SERVICE…]: a workload that Kmesh governs on this node
enrolled() {
    workload "$@"
    also "netns: $W/netns/$1"
}

# also LINE…: more fields of the last service or workload
also() {
    printf '    %s\n' "$@" >>"$MESH_SECTION"
}

# deny NAME SCOPE POD…: a policy of namespace default that keeps the accounts of these pods out
deny() {
    local name=$1 scope=$2 accounts
    shift 2
    [ -s "$W/mesh.policies" ] || echo "policies:" >"$W/mesh.policies"
    accounts=$(printf '{namespace: default, serviceAccount: %s}, ' "$@")
    cat >>"$W/mesh.policies" <<END
  - {name: $name, namespace: default, scope: $scope, action: Deny, rules: [[[{serviceAccounts: [${accounts%, }]}]]]}
END
}

# web_mesh POD…: service web with these endpoints, the client enrolled.
web_mesh() {
    local name
    mesh_begin
    service web 10.96.0.10 fd96::10
    enrolled client
    for name in "$@"; do
        workload "$name" web
    done
    mesh_end
}

# ---- under the prober ----

# probe_web NAMES [OPTION…]: the prober in the client, towards web by IPv4 and IPv6
probe_web() {
    prober_start client --target "web4=$WEB4=$1" --target "web6=$WEB6=$1" "${@:2}"
}

# expect_web NAMES: from now on these answers are right
expect_web() {
    prober_tell expect web4 "$1" >/dev/null
    prober_tell expect web6 "$1" >/dev/null
}

# changed_while_dead OLD NEW COMMAND…: the daemon is killed, the command changes something, the
# daemon comes back: until then only OLD is right, once it is ready only NEW.
changed_while_dead() {
    local old=$1 new=$2
    shift 2
    daemon_stop KILL
    "$@"
    sleep 0.2
    expect_web "$old,$new"
    daemon_up
    expect_web "$new"
    sleep 0.2
}

# kill_storm COUNT: the daemon is started and killed at random instants, with the endpoints
# changing; every fifth time it may become ready, and then only the file's endpoints are right.
# The daemon must be dead before and is dead after. The prober runs.
kill_storm() {
    local count=$1 right=a,b,c number next
    for number in $(seq "$count"); do
        next=$(random_endpoints)
        right+=,$next
        expect_web "$right"
        # shellcheck disable=SC2086 # one word each
        web_mesh ${next//,/ }
        daemon_start
        sleep "0.$((RANDOM % 3))$((RANDOM % 10))"
        if [ $((number % 5)) -eq 0 ]; then
            daemon_ready
            expect_web "$next"
            right=$next
            sleep 0.1
            # This time the kill comes within a reload.
            next=$(random_endpoints)
            right+=,$next
            expect_web "$right"
            # shellcheck disable=SC2086
            web_mesh ${next//,/ }
            sleep "0.0$((RANDOM % 10))"
        fi
        daemon_stop KILL
    done
}

random_endpoints() {
    local sets=("a" "b" "c" "a,b" "a,c" "b,c" "a,b,c")
    echo "${sets[RANDOM % ${#sets[@]}]}"
}

# ---- what a start writes ----

# Limits that make a whole dump of the tables quick. Before the daemon's first start.
small_tables() {
    export KMESH_MAX_FRONTENDS=512 KMESH_MAX_SERVICES=128 KMESH_MAX_ENDPOINTS=512
    export KMESH_MAX_WORKLOADS=256 KMESH_MAX_NAMES=1024 KMESH_MAX_PODS=64
}

# Every table, byte for byte, but for the counters.
tables() {
    local pin
    for pin in "$KMESH_BPF_ROOT"/maps/*; do
        case ${pin##*/} in
        kmesh_stats | map_of_kmesh_socket | map_of_dst_info) ;;
        *) echo "${pin##*/} $(bpftool -j map dump pinned "$pin" | sha256sum)" ;;
        esac
    done
}

# start_writes_nothing [OPTION…]: starts the daemon under strace until it is ready, ends it, and fails
# if it wrote to any map.
start_writes_nothing() {
    local before after writes
    before=$(tables)
    rm -f "$W/strace"
    bg kmeshd node_exec strace -D -f -qq -e trace=bpf -o "$W/strace" \
        "$KMESH_BIN/kmeshd" --mesh "$MESH" "$@"
    daemon_ready 20 || return 1
    daemon_stop TERM
    after=$(tables)
    [ -s "$W/strace" ] || { fail "strace saw nothing"; return 1; }
    writes=$(grep -cE 'BPF_MAP_(UPDATE|DELETE|LOOKUP_AND_DELETE)' "$W/strace") || true
    [ "$writes" -eq 0 ] || {
        grep -E 'BPF_MAP_(UPDATE|DELETE|LOOKUP_AND_DELETE)' "$W/strace" | head >&2
        fail "a start of the same thing wrote $writes times"
        return 1
    }
    [ "$before" = "$after" ] || {
        diff <(echo "$before") <(echo "$after") >&2
        fail "a start of the same thing changed the tables"
    }
}
