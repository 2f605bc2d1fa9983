#!/usr/bin/env bats
# shellcheck disable=SC2154 # set by run
bats_require_minimum_version 1.5.0
# kmeshctl restore --rollback-after, --confirm, --rollback on the real kernel.

load lib
load ctl

setup() {
    ctl_begin
}

teardown() {
    world_end
}

# The place as the snapshot says it, and a snapshot of something else.
two_states() {
    installed
    sed 's/10\.96\.0\.10/10.96.0.20/' "$UNDER_TEST" >"$W/new.yaml"
    tables_say >"$W/old.json"
}

# In a cgroup of this world, so that whatever stays behind ends with it.
restore() {
    in_node "$KMESH_BIN/kmeshctl" restore "$@" 3>&- 4>&-
}

says_old() {
    tables_say | cmp -s - "$W/old.json"
}

says_new() {
    ctl dump all -o json | jq -e '[.services[].vips[]?] | index("10.96.0.20")' >"$W/log/new"
}

guardian() {
    jq -e '.guardian.pid' "$KMESH_STATE_DIR/rollback.json"
}

nothing_pending() {
    ! compgen -G "$KMESH_STATE_DIR/rollback*" && ! compgen -G "$KMESH_STATE_DIR/.rollback*" &&
        flock -n "$KMESH_BPF_ROOT" true
}

@test "a restore that nobody confirms goes back when the time is up" {
    two_states
    # Long enough for a busy machine to look at what is there in between.
    run -0 restore "$W/new.yaml" --rollback-after 8s
    [[ $output == *"waits to be confirmed"*"restored: 4 services"* ]]
    says_new
    eventually 30 says_old
    eventually 5 nothing_pending
    is_good
    grep -q "was not confirmed: the state before is back" "$KMESH_RUN_DIR/rollback.log"
    run -2 restore --confirm
    [[ $output == *"no restore waits to be confirmed"* ]]
}

@test "a restore that is confirmed stays, and the tables are free at once" {
    two_states
    restore "$W/new.yaml" --rollback-after 1h
    run -0 restore --confirm
    [[ $output == *"confirmed: $W/new.yaml stays"* ]]
    nothing_pending
    says_new
    is_good
    run -2 restore --rollback
    [[ $output == *"no restore waits to be confirmed"* ]]
}

@test "restore --rollback goes back at once" {
    two_states
    restore "$W/new.yaml" --rollback-after 1h
    says_new
    run -0 restore --rollback
    [[ $output == *"the state before $W/new.yaml is back"* ]]
    says_old
    nothing_pending
}

@test "pods that the restore enrolled are taken back" {
    left_by_daemon
    ctl purge --yes
    jq '.pods = [] | del(.checksum)' "$UNDER_TEST" >"$W/none.json"
    ctl restore "$W/none.json"
    tables_say >"$W/old.json"
    restore "$UNDER_TEST" --rollback-after 1s
    eventually 15 says_old
    eventually 5 nothing_pending
    restore "$UNDER_TEST" --rollback-after 1h
    ctl dump pods -o json | jq -e '.pods | length == 1'
    restore --rollback
    says_old
    nothing_pending
    is_good
    [ -z "$(find "$KMESH_BPF_ROOT/pods" -mindepth 1)" ]
}

# gets POD TEXT: what the pod's connections to pod a come to
gets() {
    says "$2" names "$1" 10.77.0.11:8080 1
}

# only POD-ADDRESS: a snapshot in which nobody else may connect
only() {
    jq --arg range "$1/32" 'del(.checksum) | .policies = [{name: "only", namespace: "default",
        scope: "Namespace", action: "Allow", rules: [[[{sourceIps: [$range]}]]]}]' "$UNDER_TEST"
}

@test "policies go back, too: by the command and when the time is up" {
    left_by_daemon
    pod client 10.77.0.2
    pod other 10.77.0.3
    serve a served 8080
    only 10.77.0.2 >"$W/client.json"
    only 10.77.0.3 >"$W/other.json"
    ctl restore "$W/client.json"
    gets client served
    gets other refused
    restore "$W/other.json" --rollback-after 1h
    gets client refused
    gets other served
    restore --rollback
    gets client served
    gets other refused
    restore "$UNDER_TEST" --rollback-after 8s
    gets other served
    eventually 30 gets other refused
    eventually 5 nothing_pending
    gets client served
    is_good --against "$W/client.json"
}

@test "until it is confirmed nobody else writes, and everybody is told" {
    two_states
    restore "$W/new.yaml" --rollback-after 1h
    run -2 restore "$UNDER_TEST"
    [[ $output == *"waits to be confirmed"*--confirm*--rollback*"process $(guardian)"* ]]
    run -2 restore "$UNDER_TEST" --rollback-after 1m
    [[ $output == *"waits to be confirmed"* ]]
    run -2 ctl purge --yes
    [[ $output == *"(pid $(guardian))"* ]]
    run -0 ctl verify
    [[ $output == *"warning: "*rollback.json*"waits to be confirmed"* ]]
    mesh <<<'{services: [], workloads: []}'
    daemon_start
    eventually 5 log_says "is being written by process $(guardian)"
    stop_bg kmeshd
    says_new
    ctl restore --rollback
    says_old
}

@test "its terminal may close, and the process that restored may be killed" {
    two_states
    # A terminal of its own, whose end sends SIGHUP to all that are in its session.
    bg terminal node_exec script -qefc \
        "$KMESH_BIN/kmeshctl restore $W/new.yaml --rollback-after 3s; sleep 60" /dev/null
    eventually 5 guardian
    eventually 5 says_new
    stop_bg terminal KILL
    says_new
    eventually 15 says_old
    eventually 5 nothing_pending
}

@test "a restore that is killed in the middle goes back by itself" {
    two_states
    killed_at_write 3 "$W/new.yaml" --rollback-after 1s
    eventually 15 nothing_pending
    says_old
    is_good
}

# killed_at_write N ARGUMENTS…: a restore that gets SIGKILL as it enters its N-th change of a map.
# (strace follows no children: the guardian is left alone.)
killed_at_write() {
    local number=$1 points
    shift
    points=$(writes_of "$number")
    in_node strace -qq -e trace=bpf -e "inject=bpf:signal=KILL:when=$points" -o "$W/strace" \
        "$KMESH_BIN/kmeshctl" restore "$@" 3>&- 4>&- || true
    grep -q 'killed by SIGKILL' "$W/strace" || fail "the kill did not fire"
}

# Which bpf(2) call of a restore is its N-th change of a map; found by a restore that goes back.
writes_of() {
    in_node strace -qq -e trace=bpf -o "$W/strace" "$KMESH_BIN/kmeshctl" restore "$W/new.yaml" \
        --rollback-after 1h >"$W/log/traced" 2>&1 3>&- 4>&-
    ctl restore --rollback >"$W/log/traced"
    grep -nE 'BPF_MAP_(UPDATE|DELETE)' "$W/strace" | sed -n "$1s/:.*//p"
}

@test "a guardian that is killed is told of, and either way out works" {
    two_states
    for way in confirm rollback; do
        restore "$W/new.yaml" --rollback-after 1h
        kill -KILL "$(guardian)"
        eventually 5 flock -n "$KMESH_BPF_ROOT" true
        run -2 restore "$UNDER_TEST"
        [[ $output == *"its guardian is gone"*--confirm*--rollback* ]]
        run -0 ctl verify
        [[ $output == *"warning: "*rollback.json*"was not confirmed, and its guardian is gone"* ]]
        restore "--$way"
        nothing_pending
        if [ "$way" = confirm ]; then says_new; else says_old; fi
        ctl restore "$UNDER_TEST"
    done
}

@test "a record of another boot is no obstacle" {
    two_states
    restore "$W/new.yaml" --rollback-after 1h
    kill -KILL "$(guardian)"
    eventually 5 flock -n "$KMESH_BPF_ROOT" true
    sed -i 's/"bootId": "[^"]*"/"bootId": "another"/' "$KMESH_STATE_DIR/rollback.json"
    run -0 restore "$UNDER_TEST"
    [[ $output == *"the node was started again"* ]]
    nothing_pending
}

@test "without a state before, and for a wrong duration, it is refused" {
    snapshot
    run -2 restore "$UNDER_TEST" --rollback-after 1h
    [[ $output == *"nothing is installed"*"no state to go back to"* ]]
    nothing_pending
    run -2 restore "$UNDER_TEST" --rollback-after 1d
    [[ $output == *"30s, 5m or 1h"* ]]
    run -2 restore --confirm --rollback
    run -2 restore "$UNDER_TEST" --confirm
    run -2 restore
}

@test "what cannot be planned leaves nothing pending" {
    two_states
    # The waypoint is to go, and a service still names it.
    sed -e '/name: default\/way, port: 15019, family/,/workload/d' -e 's/ waypoint: {.*},//' \
        "$UNDER_TEST" >"$W/less.yaml"
    run -2 restore "$W/less.yaml" --only service=default/way --rollback-after 1h
    [[ $output == *"waypoint default/way"*"cannot be removed"* ]]
    says_old
    eventually 5 nothing_pending
}

@test "purge refuses beside a waiting restore, and takes its files after" {
    two_states
    restore "$W/new.yaml" --rollback-after 1h
    run -2 ctl purge --yes --stop-daemon
    says_new
    restore --confirm
    run -0 ctl purge --yes
    [[ $output == *"nothing is left"* ]]
    [ ! -e "$KMESH_STATE_DIR" ]
    [ ! -e "$KMESH_RUN_DIR" ]
}
