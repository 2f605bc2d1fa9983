#!/usr/bin/env bats
bats_require_minimum_version 1.5.0
# The runbooks of docs/operations.md: each is brought about, and every command in it is run as it
# stands there, by an operator who is on the node.

load lib
load ctl
load town
load plane

setup() {
    ctl_begin
    RUNBOOKS=$REPOSITORY/docs/operations.md
}

teardown() {
    world_end
}

# The commands of a runbook, one a line.
commands_of() {
    awk -v title="## $1" '/^## / { here = $0 == title } here && /^\$ / { print substr($0, 3) }' \
        "$RUNBOOKS"
}

# Runs them in $W, in the node; each must end as its comment says (`# exits 1: why`), else with 0.
follow() {
    local title=$1 command wanted status count=0
    while IFS= read -r -u 9 command; do
        wanted=$(sed -n 's/.*# exits \([0-9]*\).*/\1/p' <<<"$command")
        status=0
        (cd "$W" && PATH=$KMESH_BIN:$PATH node_exec bash -o pipefail -c "$command") </dev/null \
            >"$W/log/command" 2>&1 9<&- || status=$?
        [ "$status" -eq "${wanted:-0}" ] || {
            cat "$W/log/command" >&2
            fail "$command: ended with $status"
        }
        count=$((count + 1))
    done 9< <(commands_of "$title")
    [ "$count" -gt 0 ] || fail "no runbook has the title: $title"
}

# What the last command of a runbook said.
said() {
    cat "$W/log/command"
}

@test "every runbook is followed by a test" {
    local titles
    titles=$(sed -n 's/^## //p' "$RUNBOOKS")
    [ "$(wc -l <<<"$titles")" -ge 8 ]
    while IFS= read -r title; do
        grep -qF "follow \"$title\"" "$BATS_TEST_FILENAME" || fail "no test follows: $title"
    done <<<"$titles"
}

@test "runbook: what is on this node" {
    town
    web_mesh a b c
    daemon_up
    follow "What is on this node"
}

@test "runbook: the control plane is not connected" {
    town
    client_mesh
    plane_start
    plane_web a b
    xds_up
    follow "The control plane is not connected"
    says "connected for" ctl status
}

@test "runbook: the daemon keeps crashing" {
    town
    web_mesh a b c
    daemon_up
    daemon_stop KILL
    web_mesh a b
    follow "The daemon keeps crashing"
    ctl verify --against "$W/node.json"
    ctl dump maps -o json | jq -e '[.services[].endpoints | length] | all(. == 3)'
}

@test "runbook: the node rebooted and the control plane is down" {
    town
    web_mesh a b c
    daemon_up
    eventually 5 test -s "$KMESH_STATE_DIR/snapshot.json"
    daemon_stop
    # What a reboot leaves: the state directory, of another boot.
    cp -r "$KMESH_STATE_DIR" "$W/saved"
    ctl purge --yes
    cp -r "$W/saved" "$KMESH_STATE_DIR"
    follow "The node rebooted and the control plane is down"
    [[ $(said) == *default/web* ]]
}

@test "runbook: a connection does not go where it should" {
    town
    web_mesh a b c
    daemon_up
    follow "A connection does not go where it should"
    [[ $(said) == good:* ]]
}

# Endpoint a is a pod of this node; nobody but the probes of the host may connect to it.
closed_town() {
    town
    mesh_begin
    service web 10.96.0.10 fd96::10
    enrolled client
    enrolled a web
    cat "$W/mesh.services" "$W/mesh.workloads" - <<END | mesh
policies:
  - name: no-clients
    namespace: default
    scope: Namespace
    action: Allow
    rules: [[[{principals: [{Exact: td/ns/default/sa/nobody}]}]]]
END
}

@test "runbook: a waypoint is not known" {
    town
    client_mesh
    plane_start
    plane_web a b
    plane_tell '{"set":{"services":[{"namespace":"default","hostname":"far.default.svc.cluster.local",
        "vips":["10.96.0.11"],"ports":{"80":8080},"waypoint":"default/way.default.svc.cluster.local"}]}}'
    xds_up
    follow "A waypoint is not known"
    says "default/way.default.svc.cluster.local" ctl status
}

@test "runbook: a connection is refused: who denied it?" {
    closed_town
    daemon_up
    run -7 in_pod client curl -sS --http0.9 --max-time 5 http://10.77.0.11:8080/
    eventually 5 log_says 'by="no ALLOW policy matches (default/no-clients)"'
    follow "A connection is refused: who denied it?"
    [[ $(said) == *default/no-clients* ]]
}

@test "runbook: denials are missing in the log" {
    closed_town
    daemon_up
    names client 10.77.0.11:8080 60 || true
    eventually 10 all_are_told
    follow "Denials are missing in the log"
    jq -e '.denied == 60 and .logged + .suppressed == 60 and .logged >= 5 and .suppressed > 0' <<<"$(said)"
    eventually 10 log_says 'suppressed='
}

all_are_told() {
    ctl status -o json | jq -e '.daemon.status.denials | .logged + .suppressed == 60'
}

@test "runbook: a policy is refused, or a pod denies everybody" {
    closed_town
    KMESH_MAX_POLICY_CHUNKS=1 daemon_up
    follow "A policy is refused, or a pod denies everybody"
    [[ $(said) == *auth_wait* ]]
}

@test "runbook: change something, with a way back" {
    installed
    ctl dump all -o json | jq 'del(.checksum) | .services |= map(select(.name != "shop/cart"))' \
        >"$W/changed.json"
    follow "Change something, with a way back"
    is_good --against "$W/before.json"
}

@test "runbook: compare two nodes" {
    installed
    ctl dump all -o json | jq '.services[0].endpoints |= .[1:]' >"$W/other.json"
    follow "Compare two nodes"
}

@test "runbook: a map is nearly full" {
    town
    web_mesh a b c
    KMESH_MAX_SERVICES=2 daemon_up
    follow "A map is nearly full"
}

@test "runbook: uninstall" {
    left_by_daemon
    follow "Uninstall"
    [[ $(said) == *"nothing to do"* ]]
}

@test "runbook: uninstall without kmeshctl" {
    left_by_daemon
    follow "Uninstall without kmeshctl"
    ctl purge --dry-run
}
