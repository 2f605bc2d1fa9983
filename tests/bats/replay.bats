#!/usr/bin/env bats
# What a real istiod sent (tests/fixtures/istiod), byte for byte over the wire, one step of its log
# after the other: after each the kernel says what the log means, and real connections of pods with
# the captured addresses do. The expectations are by hand: tests/fixtures/istiod/churn/expected.txt.

load lib
load plane

CAPTURES=$REPOSITORY/tests/fixtures/istiod
WEB=10.96.10.10:80
KWEB=10.96.20.10:80

setup() {
    world_begin
    export KMESH_NODE=node-a
    in_node ip addr add 10.244.0.1/16 dev br0
    in_node ip addr add fd00:244:1::1/64 dev br0 nodad
    export GATEWAY4=10.244.0.1 GATEWAY6=fd00:244:1::1
    leak 80
    plane_start
    # Nothing but what is captured.
    plane_tell '{"faults":{"withhold":["Address","Authorization"]}}'
}

teardown() {
    world_end
}

# The pods of the captures that are connected to, and those of this test.
pods() {
    pod web-1 10.244.1.11 fd00:244:1::11
    pod web-2 10.244.2.12
    pod web-3-or-5 10.244.1.15
    pod waypoint-0 10.244.2.39
    pod client-1 10.244.1.13
    pod dialler 10.244.1.99 fd00:244:1::99
    pod guard 10.244.1.50
    pod strict 10.244.1.51
    pod stranger-8 10.244.8.2
    pod stranger-9 10.244.9.2
    local name
    for name in web-1 web-2 web-3-or-5 client-1 guard; do serve "$name" "$name" 8080 8089; done
    serve strict strict 8080 9000
    waypoint waypoint-0 waypoint-0 15019
}

# The mesh file governs three pods of its own; two of them name policies of the control plane.
governed() {
    local name
    for name in dialler guard strict; do
        jq -n --arg name "$name" --arg ips "$(<"$W/addresses/$name")" --arg netns "$W/netns/$name" '{
            uid: "Kubernetes//Pod/test/\($name)", name: $name, namespace: "test",
            serviceAccount: $name, node: "node-a", netns: $netns,
            workloadIps: ($ips | split(" ") | map(select(. != ""))), services: {},
            authorizationPolicies: ({guard: ["app-a/deny-ip"],
                strict: ["app-a/converted_peer_authentication_strict"]}[$name] // [])}'
    done | jq -s '{workloads: .}' | mesh
}

# ---- the log and what it leads to ----

# "NUMBER… | LABEL", one line for each step of the log.
log_steps() {
    awk '/^---- \(end\)/ { next }
        /^---- / { print numbers "| " label; label = substr($0, 6); numbers = ""; next }
        match($0, /< #[0-9]+/) { numbers = numbers substr($0, RSTART + 3, RLENGTH - 3) " " }
        BEGIN { label = "first answers" }
        END { print numbers "| " label }' "$CAPTURES/churn/log.txt"
}

# send PART NUMBER…: these responses, and waits until each is accepted.
send() {
    local part=$1 number files=()
    shift
    for number in "$@"; do files+=("$(printf '%s/%s/%04d-' "$CAPTURES" "$part" "$number")"*.pb); done
    SENT=$((SENT + $#))
    plane_tell "$(jq -cn '{send: {files: $ARGS.positional}}' --args "${files[@]}")"
    eventually 5 heard ".acks == $SENT and .nacks == []"
}

# The tables say what $W/expected says: the last line of each service counts.
tables_hold() {
    local key said line
    ctl dump all -o json >"$W/dump"
    jq -r '(.services[] | select(.kind == "service") |
        "\(.name | sub("\\..*"; "")) \(.port) \(.family): " + ([.endpoints[] |
            "\(.workload | sub(".*/"; "")):\(.port)"] | sort | join(" ") | if . == "" then "none" else . end)),
        "policies: " + ([.policies[] | "\(.namespace)/\(.name)"] | sort | join(" "))' "$W/dump" >"$W/said"
    while read -r line; do
        key=${line%%: *}
        said=$(grep -F -- "$key:" "$W/said") || said="$key: -"
        [ "$said" = "$line" ] || { echo "$said; expected: $line"; return 1; }
    done < <(awk -F ': ' '{ last[$1] = $0 } END { for (key in last) print last[key] }' "$W/expected")
}

# step LABEL: sends what this step of the log brought, reads what it must lead to, and holds it
# against the kernel. The steps are those of the log, in its order, and none is left out.
step() {
    local log expected line
    IFS='|' read -r -u 8 log line || return 1
    [[ ${line# } == "$1"* ]] || { fail "the log's next step is: $line"; return 1; }
    # shellcheck disable=SC2086 # numbers
    [ -z "$log" ] || send churn $log
    # A step ends where the next one begins.
    while IFS= read -r -u 9 expected && [[ $expected != "---- "* ]]; do
        [[ $expected == "#"* ]] || echo "$expected" >>"$W/expected"
    done
    [[ ${line# } == "${NEXT#---- }"* ]] || { fail "expected.txt has next: $NEXT"; return 1; }
    NEXT=$expected
    eventually 5 tables_hold || return 1
    ctl verify --against daemon
}

# dials POD ADDR:PORT NAME…: who answers, now or in a moment.
dials() {
    eventually 5 answered_by "$1" "$2" 12 "${@:3}"
}

# judged 8:NAME 9:NAME: what becomes of connections to guard from 10.244.8.2 and from 10.244.9.2.
judged() {
    dials stranger-8 10.244.1.50:8080 "${1#8:}"
    dials stranger-9 10.244.1.50:8080 "${2#9:}"
}

@test "each step of a real istiod's log is in the kernel, and pods' connections follow it" {
    SENT=0
    pods
    governed
    daemon_start --xds "$XDS"
    eventually 5 heard '.open == 1'
    exec 8< <(log_steps) 9<"$CAPTURES/churn/expected.txt"
    while IFS= read -r -u 9 NEXT && [[ $NEXT != "---- "* ]]; do :; done
    first_steps
    policy_steps
    service_steps
    last_steps
    [ "$SENT" -eq 32 ]
    if read -r -u 8; then fail "steps are left"; fi
    says '"good": true' ctl verify -o json
    heard '.metadata.NODE_NAME == "node-a" and .metadata.CLUSTER_ID == "Kubernetes"'
}

first_steps() {
    step "first answers"
    daemon_ready
    dials dialler "$WEB" web-1 web-2
    dials dialler "[fd00:96::11]:81" refused
    dials dialler 10.96.0.1:443 refused
    # It has a waypoint, which hears where the connection was to go.
    dials dialler "$KWEB" waypoint-0
    judged 8:guard 9:refused
    dials stranger-8 10.244.1.51:8080 refused
    dials stranger-8 10.244.1.51:9000 strict
    step "./pod.sh app-a web-3 node-a"
    dials dialler "$WEB" web-1 web-2 web-3-or-5
    step "./pod.sh app-a web-3 node-a 10.244.1.15 app=web web False"
    dials dialler "$WEB" web-1 web-2
    step "./pod.sh app-a web-3 node-a 10.244.1.15 app=web web True"
    dials dialler "$WEB" web-1 web-2 web-3-or-5
    step "kubectl patch pod -n app-a web-3 --subresource=status"
    dials dialler "$WEB" web-1 web-2
    step "kubectl delete pod -n app-a web-3"
}

policy_steps() {
    step "kubectl patch authorizationpolicy -n app-a deny-ip"
    judged 8:refused 9:guard
    step "kubectl patch authorizationpolicy -n app-a deny-ip"
    judged 8:refused 9:guard
    step "kubectl delete authorizationpolicy -n app-a deny-ip"
    judged 8:guard 9:guard
}

service_steps() {
    step "kubectl patch svc -n app-a web"
    dials dialler "$WEB" web-1 web-2
    step "kubectl delete svc -n app-a web"
    # Nobody steers it any more.
    dials dialler "$WEB" leak
    step "kubectl apply -f objects/01-apps.yaml"
    dials dialler "$WEB" web-1 web-2
    step "kubectl apply -f objects/02-policies.yaml"
    judged 8:guard 9:refused
    step "kubectl delete peerauthentication -n app-a strict"
    dials stranger-8 10.244.1.51:8080 strict
    step "kubectl apply -f objects/02-policies.yaml"
    dials stranger-8 10.244.1.51:8080 refused
}

last_steps() {
    step "kubectl label pod -n app-a client-1 app=web"
    dials dialler "$WEB" web-1 web-2 client-1
    step "kubectl label pod -n app-a client-1 app=client"
    dials dialler "$WEB" web-1 web-2
    step "kubectl label node node-a topology.kubernetes.io/zone=zone-z"
    step "kubectl label node node-a topology.kubernetes.io/zone=zone-a"
    step "./pod.sh app-a web-4 node-a"
    step "kubectl delete pod -n app-a web-4 --wait=false"
    dials dialler "$WEB" web-1 web-2
    step "kubectl delete pod -n app-a web-4 --grace-period=0"
    step "./pod.sh app-a web-5 node-a"
    dials dialler "$WEB" web-1 web-2 web-3-or-5
    step "kubectl delete namespace app-k"
    dials dialler "$KWEB" leak
}

@test "the first answers alone: half of them writes nothing, both are in force" {
    SENT=0
    pods
    governed
    daemon_start --xds "$XDS"
    eventually 5 heard '.open == 1'
    send initial 1
    sleep 0.3
    ctl dump all -o json | jq -e '.services == []'
    if daemon_is_ready; then fail "it is ready after half an answer"; fi
    send initial 2
    daemon_ready
    dials dialler "$WEB" web-1 web-2
    dials dialler "$KWEB" waypoint-0
    judged 8:guard 9:refused
    ctl verify --against daemon
}
