# What the suites of kmeshctl stand on: a snapshot by hand, an installation made from it, one that
# a daemon left, findings, and map elements written by hand.
# shellcheck shell=bash disable=SC2154,SC2034 # lib.bash and bats set them

# ---- what the tests stand on ----

# A world with a place for the snapshot.
ctl_begin() {
    world_begin
    UNDER_TEST=$W/save.yaml
}

# A snapshot by hand: two services of two workloads, a waypoint.
snapshot() {
    cat >"$UNDER_TEST" <<END
schemaVersion: 1
bootId: $(cat /proc/sys/kernel/random/boot_id)
settings: {metadata: tlv, peername: false, exemptPorts: [25, 3306]}
services:
  - {name: default/web, port: 80, family: ipv4, kind: service, vips: [10.96.0.10], synced: true,
     endpoints: [{workload: c//Pod/default/a, port: 8080, family: ipv4},
                 {workload: c//Pod/default/b, port: 8080, family: ipv4}]}
  - {name: default/web, port: 80, family: ipv6, kind: service, vips: ["fd96::10"], synced: true,
     endpoints: [{workload: c//Pod/default/a, port: 8080, family: ipv6}]}
  - {name: default/way, port: 15019, family: ipv4, kind: waypoint, synced: true,
     endpoints: [{workload: c//Pod/default/b, port: 15019, family: ipv4}]}
  - {name: shop/cart, port: 443, family: ipv4, kind: service, vips: [10.96.0.11, 10.96.0.12],
     synced: true, mode: failover, waypoint: {name: default/way, port: 15019},
     endpoints: [{workload: c//Pod/default/b, port: 8443, family: ipv4}]}
workloads:
  - {uid: c//Pod/default/a, v4: 10.77.0.11, v6: "fd77::11", addresses: [10.77.0.11, "fd77::11"],
     identity: cluster.local/ns/default/sa/a}
  - {uid: c//Pod/default/b, v4: 10.77.0.12, addresses: [10.77.0.12], isWaypoint: true,
     identity: cluster.local/ns/default/sa/b}
END
}

# Kmesh installed from that snapshot.
installed() {
    snapshot
    ctl restore "$UNDER_TEST"
}

# Kmesh as a daemon leaves it that has ended: pod `a` is enrolled. Its dump is the snapshot.
left_by_daemon() {
    pod a 10.77.0.11 fd77::11
    mesh <<END
services:
  - {name: web, namespace: default, hostname: web.default.svc.cluster.local,
     vips: ["/10.96.0.10", "/fd96::10"], ports: {80: 8080}}
workloads:
  - {uid: c//Pod/default/a, name: a, namespace: default, serviceAccount: a, node: $KMESH_NODE,
     workloadIps: ["10.77.0.11", "fd77::11"], netns: $(pod_netns a),
     services: {default/web.default.svc.cluster.local: {80: 8080}}}
END
    daemon_up
    daemon_stop
    ctl dump all -o json >"$UNDER_TEST"
    COOKIE=$(jq -e '.pods[0].cookie' "$UNDER_TEST")
}

# What the tables say, without what every write changes.
tables_say() {
    ctl dump all -o json | jq -S '{settings, services, workloads, pods}'
}

# verify must give exactly this one finding, and exit as its severity says.
finds() {
    local severity=$1 text=$2 status=0 lines
    shift 2
    lines=$(ctl verify "$@") || status=$?
    [ "$(wc -l <<<"$lines")" -eq 1 ] || fail "expected one finding, got: $lines"
    [[ $lines == "$severity: "* && $lines == *"$text"* ]] ||
        fail "expected '$severity … $text', got: $lines"
    [ "$status" -eq "$([ "$severity" = error ] && echo 1 || echo 0)" ] || fail "exit status $status"
}

is_good() {
    local lines
    lines=$(ctl verify "$@") || fail "$lines"
    [[ $lines == good:* ]] || fail "expected nothing, got: $lines"
}

# The value of an array's element, and another in its place; both as hex bytes.
element() {
    # shellcheck disable=SC2046 # bytes are words
    bpftool -j map lookup pinned "$KMESH_BPF_ROOT/maps/$1" key $(le32 "$2") |
        jq -r '.value | map(ltrimstr("0x")) | join(" ")'
}

set_element() {
    # shellcheck disable=SC2046,SC2086 # bytes are words
    bpftool map update pinned "$KMESH_BPF_ROOT/maps/$1" key $(le32 "$2") value hex $3
}

le32() {
    printf '%d %d %d %d' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255))
}

# The index of the first element whose value, in hex bytes, matches.
index_of() {
    local map=$1 pattern=$2 at
    for at in $(seq 0 15); do
        [[ ! $(element "$map" "$at") =~ $pattern ]] || { echo "$at"; return; }
    done
    fail "no element of $map is like $pattern"
}

# A program of no Kmesh, for the connect4 hook.
foreign_program() {
    cat >"$W/foreign.c" <<'END'
__attribute__((section("cgroup/connect4"), used)) int foreign(void *ctx) { return 1; }
__attribute__((section("license"), used)) char _license[] = "GPL";
END
    clang-19 -O2 -g -target bpf -c "$W/foreign.c" -o "$W/foreign.o"
    bpftool prog load "$W/foreign.o" "$W/bpf/foreign" type cgroup/connect4
}
