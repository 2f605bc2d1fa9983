#!/usr/bin/env bats
# shellcheck disable=SC2154 # set by run
bats_require_minimum_version 1.5.0
# Policies of a mesh file in force: who may connect to an enrolled pod, with the daemon alive and
# dead, and what becomes of the pods' hooks. Real connections between pods.

load lib
load town
load ctl

setup() {
    world_begin
    small_tables
}

teardown() {
    world_end
}

# ---- the pods: client and other dial, a listens at 8080 and 8081 and is governed ----

hamlet() {
    pod client 10.77.0.2 fd77::2
    pod other 10.77.0.3 fd77::3
    pod a 10.77.0.11 fd77::11
    serve a a 8080 8081
}

# policies YAML…: the mesh file with these policies; `a` is enrolled, as the policies named in
# SELECTED (a list) select it. Options of the pod in MORE.
policies() {
    mesh_begin
    workload client
    workload other
    enrolled a
    [ -z "${SELECTED-}" ] || also "authorizationPolicies: [$SELECTED]"
    [ -z "${MORE-}" ] || also "$MORE"
    { cat "$W/mesh.workloads"; [ $# -eq 0 ] || { echo "policies:"; printf -- '- %s\n' "$@"; }; } | mesh
}

# policy ACTION RULES [NAME [SCOPE [MORE]]]: one, in one line
policy() {
    echo "{name: ${3-p}, namespace: default, scope: ${4-Namespace}, action: $1, rules: $2${5+, $5}}"
}

in_force() {
    eventually 10 ctl_settled
}

ctl_settled() {
    in_sync >/dev/null
}

let_in() {
    local got
    got=$(names "$1" "$2" 1)
    [ "$got" = a ] || fail "$1 should reach $2, but: $got"
}

# Refused, and at once: no time-out of seconds.
kept_out() {
    local got began=${EPOCHREALTIME/./}
    got=$(names "$1" "$2" 1) || true
    [[ $got == *[Rr]efused* ]] || { fail "$1 should be refused by $2, but: $got"; return 1; }
    [ $((${EPOCHREALTIME/./} - began)) -lt 2000000 ] || fail "$1 was not refused at once by $2"
}

A4=10.77.0.11:8080
A6='[fd77::11]:8080'

link_id() {
    local link
    for link in "$KMESH_BPF_ROOT"/pods/*/sk_lookup; do
        bpftool -j link show pinned "$link" | jq -r '"\(.id) \(.prog_id)"'
    done
}

no_pods() {
    [ -z "$(ls "$KMESH_BPF_ROOT/pods")" ]
}

# ---- who may connect ----

@test "authz: by principal, account, namespace, address and port, refused at once" {
    hamlet
    policies "$(policy Allow '[[[{principals: [{Exact: cluster.local/ns/default/sa/client}]}]]]')"
    daemon_up
    let_in client "$A4"
    let_in client "$A6"
    kept_out other "$A4"
    kept_out other "$A6"
    policies "$(policy Deny '[[[{serviceAccounts: [{namespace: default, serviceAccount: client}]}]]]')"
    in_force
    kept_out client "$A4"
    let_in other "$A6"
    policies "$(policy Deny '[[[{namespaces: [{Exact: default}]}]]]')"
    in_force
    kept_out client "$A4"
    kept_out other "$A4"
    policies "$(policy Deny '[[[{sourceIps: [10.77.0.2/32, fd77::3/128]}]]]')"
    in_force
    kept_out client "$A4"
    let_in client "$A6"
    let_in other "$A4"
    kept_out other "$A6"
    policies "$(policy Deny '[[[{destinationPorts: [8081]}]]]')"
    in_force
    let_in client "$A4"
    kept_out client 10.77.0.11:8081
    policies "$(policy Deny '[[[{destinationPorts: [8080]}]]]' p Namespace 'dryRun: true')"
    in_force
    let_in client "$A4"
    policies
    in_force
    let_in client 10.77.0.11:8081
}

@test "authz: selector policies apply to the workload that names them" {
    hamlet
    local rules='[[[{destinationPorts: [8080]}]]]'
    policies "$(policy Deny "$rules" p WorkloadSelector)"
    daemon_up
    let_in client "$A4"
    SELECTED=default/p policies "$(policy Deny "$rules" p WorkloadSelector)"
    in_force
    kept_out client "$A4"
    let_in client 10.77.0.11:8081
}

@test "authz: no address is a way around, the pod itself and UDP pass" {
    hamlet
    policies "$(policy Allow '[]' none)"
    in_pod a ip addr add 10.77.0.12/16 dev eth0
    in_pod a ip addr add fd77::12/64 dev eth0 nodad
    in_pod a ip addr add fe80::a/64 dev eth0 nodad
    daemon_up
    local address scope
    scope=$(in_pod client ip -o link show eth0 | cut -d : -f 1)
    for address in "$A4" "$A6" 10.77.0.12:8080 '[fd77::12]:8080' '[::ffff:10.77.0.11]:8080' "[fe80::a%$scope]:8080"; do
        kept_out client "$address"
    done
    for address in 127.0.0.1:8080 '[::1]:8080' "$A4" "$A6" '[fd77::12]:8080'; do
        let_in a "$address"
    done
    bg hear-udp pod_exec a "$KMESH_BIN/kmesh-traffic" hear --name udp --ready "$W/ready/udp" \
        --udp 10.77.0.11:9000
    eventually 5 test -e "$W/ready/udp"
    says "udp from " in_pod client timeout 20 "$KMESH_BIN/kmesh-traffic" dial 10.77.0.11:9000 --way udp
}

@test "authz: what the host's own sockets dial passes, its address alone does not" {
    hamlet
    policies "$(policy Allow '[]' none)"
    daemon_up
    in_force
    kept_out client "$A4"
    let_in node "$A4"
    let_in node "$A6"
    # The node's address in another namespace, outside the governed cgroup: nobody noted it.
    local got
    got=$(in_node "$KMESH_BIN/kmesh-prober" names "$A4" --count 1) || true
    [[ $got == *[Rr]efused* ]] || fail "a socket that nobody noted should be refused, but: $got"
}

@test "authz: bypass and un-enrolment lift everything and leave nothing" {
    hamlet
    local closed
    closed=$(policy Allow '[]' none)
    policies "$closed"
    daemon_up
    kept_out client "$A4"
    MORE="bypass: true" policies "$closed"
    eventually 5 let_in client "$A4"
    policies "$closed"
    eventually 5 kept_out client "$A4"
    mesh_begin
    workload client
    workload a
    { cat "$W/mesh.workloads"; echo "policies:"; echo "- $closed"; } | mesh
    eventually 5 let_in client "$A4"
    eventually 5 no_pods
}

# ---- the daemon away ----

@test "authz: the daemon killed: still decided, and what changed meanwhile is in force after" {
    hamlet
    policies "$(policy Deny '[[[{principals: [{Exact: cluster.local/ns/default/sa/client}]}]]]')"
    daemon_up
    daemon_stop KILL
    for _ in 1 2 3; do
        kept_out client "$A4"
        let_in other "$A6"
    done
    policies "$(policy Deny '[[[{principals: [{Exact: cluster.local/ns/default/sa/other}]}]]]')"
    kept_out client "$A4"
    daemon_up
    let_in client "$A4"
    kept_out other "$A4"
    daemon_stop KILL
    policies
    kept_out other "$A4"
    daemon_up
    let_in other "$A4"
}

@test "authz: a start of the same thing writes nothing and loads nothing" {
    hamlet
    policies "$(policy Deny '[[[{destinationPorts: [8081]}]]]')"
    daemon_up
    daemon_stop TERM
    local before
    before=$(link_id)
    [ -n "$before" ]
    start_writes_nothing
    ! grep -E 'BPF_PROG_LOAD|BPF_LINK_(CREATE|UPDATE)|BPF_OBJ_PIN' "$W/strace" || fail "it loaded"
    [ "$(link_id)" = "$before" ]
    kept_out client 10.77.0.11:8081
}

@test "authz: another build's program is replaced in its link, without a gap" {
    hamlet
    policies "$(policy Deny '[[[{destinationPorts: [8081]}]]]')"
    daemon_up
    daemon_stop KILL
    local before build
    before=$(link_id)
    build=$(echo "$KMESH_BPF_ROOT"/pods/*/build)
    ln -sfn "00000000000000aa ${before#* }" "$build"
    finds warning "of another build (00000000000000aa)"
    bg storm pod_exec client bash -c "while :; do '$KMESH_BIN/kmesh-prober' names 10.77.0.11:8081 --count 50; done"
    daemon_up
    sleep 0.3
    stop_bg storm KILL
    ! grep -qx a "$W/log/storm" || fail "a denied connection got through"
    grep -q efused "$W/log/storm"
    [ "$(link_id | cut -d ' ' -f 1)" = "${before% *}" ] || fail "another link"
    [ "$(link_id)" != "$before" ] || fail "the same program"
    is_good
}

# ---- what somebody or something took away ----

@test "authz: a hook that was detached, lost or replaced is found by verify and mended" {
    hamlet
    policies "$(policy Deny '[[[{destinationPorts: [8081]}]]]')"
    daemon_up
    local pin
    pin=$(echo "$KMESH_BPF_ROOT"/pods/*/sk_lookup)
    daemon_stop KILL
    bpftool link detach pinned "$pin"
    finds error "$pin leads nowhere"
    let_in client 10.77.0.11:8081
    daemon_up
    kept_out client 10.77.0.11:8081
    is_good
    daemon_stop KILL
    rm "$pin"
    finds error "$pin is missing"
    daemon_up
    is_good
    # and by a daemon that lives
    bpftool link detach pinned "$pin"
    eventually 25 kept_out client 10.77.0.11:8081
    is_good
}

@test "authz: something foreign in the place of a hook: told by name, not ready, not touched" {
    hamlet
    policies "$(policy Deny '[[[{destinationPorts: [8081]}]]]')"
    daemon_up
    local pin
    pin=$(echo "$KMESH_BPF_ROOT"/pods/*/sk_lookup)
    daemon_stop KILL
    rm "$pin"
    bpftool map create "$pin" type array key 4 value 4 entries 1 name somebodys
    finds error "is not Kmesh's, but map somebodys"
    daemon_start
    eventually 10 says "$pin" in_node curl -s "http://$KMESH_ADMIN/healthz/ready"
    eventually 10 says "kmesh_pods_without_hook 1" metrics
    rm "$pin"
    eventually 25 daemon_is_ready
    eventually 5 says "kmesh_pods_without_hook 0" metrics
    kept_out client 10.77.0.11:8081
}

@test "authz: the namespace of a pod is gone: its hook goes with it" {
    hamlet
    policies
    daemon_up
    [ -n "$(link_id)" ]
    daemon_stop KILL
    stop_bg server-a KILL
    pod_gone a
    daemon_start
    eventually 40 no_pods
}

@test "authz: a foreign program beside a hook is a warning, in the log once and in verify" {
    hamlet
    policies
    daemon_up
    cat >"$W/theirs.c" <<'END'
__attribute__((section("sk_lookup"), used)) int theirs(void *ctx) { return 1; }
__attribute__((section("license"), used)) char _license[] = "GPL";
END
    clang-19 -O2 -g -target bpf -c "$W/theirs.c" -o "$W/theirs.o"
    bpftool prog load "$W/theirs.o" "$W/bpf/theirs" type sk_lookup
    "$KMESH_BIN/examples/beside" "$W/netns/a" "$W/bpf/theirs" "$W/bpf/their_link"
    finds warning 'a foreign program "theirs"'
    eventually 25 log_says "a foreign program stands beside the pod's authorization"
    sleep 11
    [ "$(grep -c 'a foreign program stands' "$W/log/kmeshd")" -eq 1 ]
    rm "$W/bpf/their_link" "$W/bpf/theirs"
    eventually 5 is_good
}

# ---- limits, and the end ----

@test "authz: policies that do not fit: told with the option, what was in force stays" {
    hamlet
    policies "$(policy Deny '[[[{destinationPorts: [8081]}]]]')"
    export KMESH_MAX_POLICY_WORDS=1024
    daemon_up
    kept_out client 10.77.0.11:8081
    local ranges
    ranges=$(seq -f '10.%g.0.0/24' -s ', ' 1 250),$(seq -f '11.%g.0.0/24' -s ', ' 1 250)
    ranges+=,$(seq -f '12.%g.0.0/24' -s ', ' 1 250)
    policies "$(policy Deny "[[[{sourceIps: [$ranges]}]]]")"
    eventually 10 log_says "--max-policy-words"
    kept_out client 10.77.0.11:8081
    policies "$(policy Deny '[[[{destinationPorts: [8080]}]]]')"
    eventually 10 let_in client 10.77.0.11:8081
    kept_out client "$A4"
}

@test "authz: purge takes pods' hooks away, also those that lost their pins, and leaves nothing" {
    hamlet
    policies "$(policy Allow '[]' none)"
    daemon_up
    daemon_stop KILL
    kept_out client "$A4"
    run -1 ctl purge --dry-run
    [[ $output == *"sk_lookup"*"/pods/"* ]]
    run -0 ctl purge --yes
    let_in client "$A4"
    [ ! -e "$KMESH_BPF_ROOT" ]
}
