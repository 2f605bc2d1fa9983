#!/usr/bin/env bats
# shellcheck disable=SC2154,SC2153 # set by run and stop_bg
bats_require_minimum_version 1.5.0
# kmeshctl status, and the daemon's control socket that it asks.
# Each test has a BPF file system and a cgroup of its own.

load lib
load ctl
load town

setup() {
    ctl_begin
}

teardown() {
    world_end
}

# ask METHOD PATH: the status of HTTP, then the answer.
ask() {
    curl -s -m 5 -X "$1" --unix-socket "$KMESH_RUN_DIR/kmeshd.sock" -w '%{http_code}\n' "http://kmeshd$2"
}

@test "status: nothing installed" {
    run -1 ctl status
    [[ $output == *"not running"* && $output == *"nothing is installed here"* ]]
    run -1 ctl status -o json
    jq -e '.schemaVersion == 1 and (.good | not) and (.daemon.running | not)
        and (has("kernel") | not)' <<<"$output"
}

@test "status: the daemon at work, its pods, its connections" {
    town
    web_mesh a b
    daemon_up
    names client "$WEB4" 3
    run -0 ctl status
    [[ $output == *"running: pid $(bg_pid kmeshd) for "* && $output == *"node node1"* ]]
    [[ $output == *"mesh file $MESH: taken "* && $output == *"1 services, 3 workloads"* ]]
    [[ $output == *"connect4 running"* && $output == *"sk_msg running"* ]]
    [[ $output == *"1 managed, 0 bypassed"* ]]
    [[ $output == *"steered"*"connections sent to an endpoint of a service"* ]]
    [[ ${lines[-1]} == "good: everything is as it should be" ]]
    run -0 ctl status -o json
    jq -e --argjson pid "$(bg_pid kmeshd)" '.good and .daemon.status.pid == $pid
        and .daemon.status.ready and .daemon.lastSyncSecondsAgo >= 0
        and .daemon.status.sources[0].complete and .kernel.counters.steered == 3
        and .kernel.podsManaged == 1' <<<"$output"
}

@test "status: a mesh file that is refused, and one that never was good" {
    pod client 10.77.0.2
    pod a 10.77.0.11
    web_mesh a
    daemon_up
    echo 'workloads: [{nonsense: 1}]' | mesh
    eventually 10 says "refused" ctl status
    run -0 ctl status
    [[ $output == *"refused, the last good state is in force: "*"line 1 column"* ]]
    daemon_stop
    daemon_start
    eventually 10 says "nothing taken yet" ctl status
    says "no: first sync" ctl status
    says "complete answer" ask GET /snapshot
}

@test "status: a policy that is not in force: said by status, verify and readiness; the daemon is ready" {
    local ranges
    pod client 10.77.0.2
    pod a 10.77.0.11
    serve a served 8080
    mesh_begin
    service web 10.96.0.10
    enrolled a web
    deny fits Namespace nobody
    mesh_end
    export KMESH_MAX_POLICY_WORDS=1024
    daemon_up
    ranges=$(seq -f '"10.%g.0.0/24"' -s ', ' 1 2 255),$(seq -f '"11.%g.0.0/24"' -s ', ' 1 2 255)
    ranges+=,$(seq -f '"12.%g.0.0/24"' -s ', ' 1 2 255),$(seq -f '"13.%g.0.0/24"' -s ', ' 1 2 255)
    echo "  - {name: large, namespace: default, scope: Namespace, action: Deny, rules: [[[{sourceIps: [$ranges]}]]]}" \
        >>"$W/mesh.policies"
    mesh_end
    eventually 10 says "default/large" ctl status
    run -1 ctl status
    [[ $output == *"default/large"*"not in force together as written"*"--max-policy-words"* ]]
    run -1 ctl verify
    [[ $output == "error: "*"/a: the policies that apply to it are not compiled: older ones are in force"* ]]
    run -0 in_node curl -sf "http://$KMESH_ADMIN/healthz/ready"
    [[ ${lines[0]} == ready && $output == *"default/large"*"--max-policy-words"* ]]
    says "kmesh_policies_refused 1" metrics
    # Nor does it hold back a daemon that starts.
    daemon_stop KILL
    daemon_up
    log_says "verified: ready"
    run -1 ctl status
    [[ $output == *"default/large"*"not in force together as written"*"--max-policy-words"* ]]
    # It is mended: nobody says anything any more.
    sed -i '/name: large/d' "$W/mesh.policies"
    mesh_end
    eventually 10 ctl status
    run -0 in_node curl -sf "http://$KMESH_ADMIN/healthz/ready"
    [ "$output" = ready ]
}

@test "status: with the daemon gone it tells from the kernel and the run directory" {
    left_by_daemon
    [ ! -e "$KMESH_RUN_DIR/kmeshd.sock" ]
    run -0 ctl status
    [[ $output == *"not running; what is in force stays"* && $output == *"1 managed"* ]]
    [[ $output =~ last\ sync\ +[0-9]+\ s\ ago ]]
    daemon_up
    local pid
    pid=$(bg_pid kmeshd)
    daemon_stop KILL
    run -0 ctl status
    [[ $output == *"not running: pid $pid was killed or crashed"* ]]
    run -0 ctl status -o json
    jq -e --argjson pid "$pid" '.daemon.killedPid == $pid and (.daemon.running | not)
        and .daemon.lastSyncSecondsAgo >= 0' <<<"$output"
    rm "$KMESH_RUN_DIR/last-sync.json"
    run -0 ctl status
    [[ $output =~ last\ sync\ +unknown ]]
    # The dead one's socket is replaced.
    daemon_up
    says "running: pid $(bg_pid kmeshd)" ctl status
}

@test "status: what is wrong is told, and the exit status is verify's" {
    installed
    rm "$KMESH_BPF_ROOT/links/connect4"
    run -1 ctl status
    [[ $output == *"connect4 not attached"* && $output == *"errors: 1, warnings: 0"* ]]
    [[ $output == *"error: links: connect4: the link is missing"* ]]
}

two_lines() {
    [ "$(wc -l <"$W/log/watch")" -ge "$1" ]
}

@test "status --watch: again and again, with rates, until SIGINT; a closed pipe is no error" {
    town
    web_mesh a b
    daemon_up
    bg watch "$KMESH_BIN/kmeshctl" status --watch 1 -o json
    eventually 20 two_lines 2
    stop_bg watch INT
    [ "$STATUS" -eq 0 ]
    jq -es 'length >= 2 and all(.good)' "$W/log/watch"
    names client "$WEB4" 3
    bg rates "$KMESH_BIN/kmeshctl" status --watch 1
    eventually 20 grep -q PER-SECOND "$W/log/rates"
    stop_bg rates TERM
    [ "$STATUS" -eq 0 ]
    "$KMESH_BIN/kmeshctl" status --watch 1 | head -n 1
    [ "${PIPESTATUS[0]}" -eq 0 ]
}

@test "control socket: for root alone; hold, snapshot, nothing else; hold is gone from TCP" {
    left_by_daemon
    daemon_up
    [ "$(stat -c %a "$KMESH_RUN_DIR/kmeshd.sock")" = 600 ]
    [ "$(ask POST "/hold?ms=1500")" = $'held\n200' ]
    says '"held": true' ask GET /status
    [ "$(ask POST "/hold?ms=0")" = $'held\n200' ]
    says '"held": false' ask GET /status
    [[ $(ask POST "/hold?ms=x") == *400 ]]
    [[ $(ask GET /other) == *404 ]]
    curl -s --unix-socket "$KMESH_RUN_DIR/kmeshd.sock" http://kmeshd/snapshot |
        ctl verify --against -
    [ "$(in_node curl -s -o "$W/log/hold" -w '%{http_code}' -X POST "http://$KMESH_ADMIN/hold")" = 404 ]
    daemon_stop
    [ ! -e "$KMESH_RUN_DIR/kmeshd.sock" ]
    # A path that no socket can have is refused before anything is touched.
    echo '{}' | mesh
    run -1 "$KMESH_BIN/kmeshd" --mesh "$MESH" --run-dir "$W/$(printf 'd%.0s' {1..100})"
    [[ $output == *"at most 107"*"--run-dir"* ]]
}
