#!/usr/bin/env bats
# The mesh comes from a control plane that speaks the real protocol; it may vanish, lie and fail at
# any time. Connections are real, of pods.

load lib
load town
load plane

setup() {
    world_begin
}

teardown() {
    world_end
}

# ---- what it says is in force ----

@test "a control plane's services are governed, and changes take hold at once" {
    town
    client_mesh
    plane_start
    plane_web a b
    xds_up
    answered_by client "$WEB4" 20 a b
    answered_by client "$WEB6" 20 a b
    plane_web a b c
    eventually 5 names_only a b c
    plane_remove a
    eventually 5 names_only b c
    # An unhealthy one is not sent connections.
    plane_tell "{\"set\":{\"workloads\":[$(plane_workload b '{"unhealthy":true}')]}}"
    eventually 5 names_only c
    heard '.nacks == [] and .acks >= 5 and .metadata.NODE_NAME == "node1"'
    heard '.node | startswith("ztunnel~127.0.0.1~kmesh-node1.kmesh-system~")'
}

@test "a restart that finds nothing new writes nothing" {
    town
    client_mesh
    plane_start
    plane_web a b c
    xds_up
    daemon_stop KILL
    xds_up
    metric_is kmesh_map_elements_written_total 0
    names_only a b c
    ctl verify
}

@test "a control plane alone does not say which pods there are: those enrolled stay" {
    town
    client_mesh
    plane_start
    plane_web a b
    xds_up
    daemon_stop
    bg kmeshd node_exec "$KMESH_BIN/kmeshd" --xds "$XDS"
    daemon_ready
    names_only a b
    ctl dump pods -o json | jq -e '[.pods[].uid] | length == 1'
    plane_web c
    eventually 5 names_only a b c
    ctl verify
}

# web_through WAYPOINT: the services web and new (another VIP) name it
web_through() {
    plane_tell "$(jq -cn --arg waypoint "$1" '{set: {services: [
        {namespace: "default", hostname: "web.default.svc.cluster.local", waypoint: $waypoint,
         vips: ["10.96.0.10", "fd96::10"], ports: {"80": 8080}},
        {namespace: "default", hostname: "new.default.svc.cluster.local", waypoint: $waypoint,
         vips: ["10.96.0.20"], ports: {"80": 8080}}]}}')"
}

@test "a waypoint that is not known leaves what was there, and lets nothing new around it" {
    town
    client_mesh
    plane_start
    plane_web a b
    xds_up
    names_only a b
    web_through default/later
    eventually 5 answered_by client 10.96.0.20:80 3 refused
    answered_by client "$WEB4" 20 a b
    ctl verify --against daemon
    says "waypoint default/later (1 stay as they were, 1 are refused" ctl status
    daemon_stop KILL
    xds_up
    metric_is kmesh_map_elements_written_total 0
    answered_by client "$WEB4" 20 a b
    answered_by client 10.96.0.20:80 3 refused
    metric_is 'kmesh_waypoint_waiting{meets="as before"}' 1
    # It names none any more.
    web_through ""
    eventually 5 answered_by client 10.96.0.20:80 3 refused
    eventually 5 metric_is kmesh_waypoints_unknown 0
    answered_by client "$WEB4" 20 a b
}

# ---- policies ----

A=10.77.0.11:8080

@test "its policies are in force, and stay while it and the daemon are away" {
    town
    mesh_begin
    sed -i 's/services:/services: []/' "$W/mesh.services"
    enrolled client
    enrolled a
    mesh_end
    plane_start
    plane_web b c
    xds_up
    answered_by client "$A" 3 a
    keep_out true
    eventually 5 refused "$A"
    answered_by client "$WEB4" 60 b c
    stop_bg plane KILL
    daemon_stop KILL
    refused "$A"
    daemon_start --xds "$XDS"
    eventually 5 says "nobody listens there" in_node curl -s "http://$KMESH_ADMIN/healthz/ready"
    refused "$A"
    # It comes back and has taken the policy away meanwhile.
    plane_start
    plane_web b c
    daemon_ready 30
    eventually 5 answered_by client "$A" 3 a
    # Only who is named may come: the client is not.
    plane_tell '{"set":{"policies":[{"namespace":"default","name":"only-b",
        "principals":["cluster.local/ns/default/sa/b"]}]}}'
    eventually 5 refused "$A"
    plane_tell '{"set":{"remove":["default/only-b"]}}'
    eventually 5 answered_by client "$A" 3 a
    ctl verify
}

# keep_out DENY: the client is whom a policy of the control plane is about
keep_out() {
    plane_tell "{\"set\":{\"policies\":[{\"namespace\":\"default\",\"name\":\"client\",\"deny\":$1,
        \"principals\":[\"cluster.local/ns/default/sa/client\"]}]}}"
}

# refused ADDR:PORT: every connection of the client is, at once
refused() {
    answered_by client "$1" 3 refused
}

# ---- it goes away ----

@test "the control plane away while the daemon restarts: everything stays, and it says why" {
    town
    client_mesh
    plane_start
    plane_web a b
    xds_up
    probe_web a,b --every-ms 5
    stop_bg plane KILL
    daemon_stop KILL
    daemon_start --xds "$XDS"
    eventually 5 says "nobody listens there" in_node curl -s "http://$KMESH_ADMIN/healthz/ready"
    fails daemon_is_ready
    sleep 0.5
    prober_tell report
    # It comes back with another endpoint more, and one less.
    expect_web a,b,c
    plane_start
    plane_web a b c
    daemon_ready 30
    eventually 5 names_only a b c
    prober_stop 100
}

@test "flaps by the hundred: no connection notices, and nothing is written" {
    town
    client_mesh
    plane_start
    plane_web a b c
    xds_up
    probe_web a,b,c --every-ms 5
    local written
    written=$(metric kmesh_map_elements_written_total)
    plane_tell '{"faults":{"close_after":2}}'
    plane_tell '"close"'
    eventually 120 heard '.streams > 200'
    plane_tell '{"faults":{}}'
    eventually 20 heard '.open == 1'
    metric_is kmesh_map_elements_written_total "$written"
    # What changed while it was away is told as a difference.
    heard '.known == 4'
    plane_remove a
    expect_web b,c
    eventually 5 names_only b c
    prober_stop 300
}

@test "half an answer prunes nothing: until every type has answered, all stays" {
    town
    client_mesh
    plane_start
    plane_web a b
    xds_up
    daemon_stop KILL
    plane_web a b c
    plane_remove a
    plane_tell '{"faults":{"withhold":["Authorization"]}}'
    daemon_start --xds "$XDS"
    eventually 5 says "no answer yet for Authorization" \
        in_node curl -s "http://$KMESH_ADMIN/healthz/ready"
    names_only a b
    plane_tell '{"faults":{}}'
    daemon_ready
    names_only b c
}

@test "an empty first answer is held back, until it is given twice" {
    town
    client_mesh
    plane_start
    plane_web a b
    xds_up --empty-grace 3
    probe_web a,b --every-ms 5
    plane_tell '{"faults":{"empty_first":true}}'
    plane_tell '"close"'
    eventually 10 metric_is kmesh_xds_held_back 1
    names_only a b
    says "names 0 objects where there were 3" ctl status
    # It recovers: nothing has changed.
    plane_tell '{"faults":{}}'
    eventually 10 metric_is kmesh_xds_held_back 0
    prober_stop 50
    names_only a b
    # It means it: after the grace it is believed.
    plane_tell '"clear"'
    plane_tell '"close"'
    eventually 20 names_only leak
    metric_is kmesh_xds_held_back 0
}

@test "a control plane that has lost everything does not empty a daemon that starts" {
    town
    client_mesh
    plane_start
    plane_web a b
    xds_up
    daemon_stop KILL
    plane_tell '"clear"'
    daemon_start --xds "$XDS"
    eventually 10 says "names 0 objects where there were" \
        in_node curl -s "http://$KMESH_ADMIN/healthz/ready"
    names_only a b
    daemon_stop TERM
    xds_up --accept-empty
    names_only leak
}

@test "several control planes are tried in turn, and the mesh file beside them is not lost" {
    town
    web_mesh a
    plane_start
    plane_web b c
    daemon_up --xds "http://127.0.0.1:9,$XDS"
    # Service web is the file's; the endpoints are those of both.
    names_only a b c
    # The file lets the service go: it is the control plane's.
    client_mesh
    eventually 10 names_only b c
    stop_bg plane KILL
    names_only b c
}

# ---- it says what makes no sense ----

@test "the bad resource of a response is refused by name, the others are in force" {
    town
    client_mesh
    plane_start
    plane_web a b
    xds_up
    local bad
    bad=$(plane_workload c '{"uid":"Kubernetes//Pod/default/'"$(printf 'x%.0s' {1..2000})"'"}')
    plane_tell "{\"set\":{\"workloads\":[$bad]}}"
    eventually 5 heard '.nacks[0] | contains("uid of 2024 bytes: at most 512")'
    plane_tell '{"raw":{"of":"Address","name":"default/broken","bytes":[255,255,255]}}'
    eventually 5 heard '.nacks[1] | contains("default/broken: the address is malformed")'
    log_says "default/broken: the address is malformed"
    plane_tell '{"raw":{"of":"Authorization","name":"n/p","bytes":[10,1,112,18,1,110,24,9]}}'
    eventually 5 heard '.nacks[2] | contains("n/p: scope 9 is not known")'
    metric_is kmesh_xds_refusals_total 3
    names_only a b
    plane_web a b c
    eventually 5 names_only a b c
    in_node curl -s --unix-socket "$KMESH_RUN_DIR/kmeshd.sock" http://d/status |
        jq -e '.sources[1].controlPlane | .rejected == 3 and .workloads == 3 and .services == 1'
}

@test "unknown types, repeated nonces and late answers are taken as they come" {
    town
    client_mesh
    plane_start
    plane_web a b
    plane_tell '{"faults":{"unknown_type":true,"repeat_nonce":true,"delay_ms":700}}'
    xds_up
    names_only a b
    heard '.nacks[0] | contains("of.nobody: not subscribed to")'
    plane_web a b c
    eventually 10 names_only a b c
}

@test "an answer above gRPC's 4 MB is taken; a change of one is a write of few" {
    town
    client_mesh
    plane_start
    plane_tell '{"many":{"services":800,"endpoints":25}}'
    plane_web a b
    daemon_start --xds "$XDS" --max-workloads 40000 --max-endpoints 60000 --max-frontends 60000 \
        --max-names 200000 --max-services 4000
    daemon_ready 60
    names_only a b
    metric_is kmesh_workloads 20003
    local written
    written=$(metric kmesh_map_elements_written_total)
    plane_remove a
    eventually 10 names_only b
    [ $(($(metric kmesh_map_elements_written_total) - written)) -lt 12 ]
    # Too small a limit is said, with the option that raises it.
    daemon_stop KILL
    daemon_start --xds "$XDS" --xds-max-response 1
    eventually 60 log_says "Raise --xds-max-response"
    names_only b
}

# ---- TLS ----

@test "TLS with a token; both are read anew when they rotate" {
    town
    client_mesh
    plane_start --pki "$W/pki" --token first
    plane_web a b
    echo first >"$W/token"
    XDS=https://127.0.0.1:15010
    xds_up --xds-root-cert "$W/pki/root.pem" --xds-token "$W/token"
    names_only a b
    # Another root and another token.
    stop_bg plane KILL
    plane_start --pki "$W/pki" --token second
    plane_web a b c
    eventually 20 log_says "must be fresh, of audience istio-ca"
    echo second >"$W/token"
    eventually 30 names_only a b c
}

@test "who asks is whom the token names; a pod's template may say the rest" {
    town
    client_mesh
    local claims token
    claims='{"aud":["istio-ca"],"kubernetes.io":{"namespace":"mesh","pod":{"name":"kmesh-7"},
        "serviceaccount":{"name":"agent"}}}'
    token=e30.$(base64 -w 0 <<<"$claims" | tr '+/' '-_' | tr -d =).c2ln
    plane_start --pki "$W/pki" --token "$token"
    plane_web a b
    echo "$token" >"$W/token"
    XDS=https://127.0.0.1:15010
    export KMESH_XDS_ROOT_CERT=$W/pki/root.pem KMESH_XDS_TOKEN=$W/token
    INSTANCE_IP=10.77.0.1 xds_up
    heard '.node == "ztunnel~10.77.0.1~kmesh-7.mesh~mesh.svc.cluster.local"'
    heard '.metadata | .SERVICE_ACCOUNT == "agent" and .NAMESPACE == "mesh" and .NAME == "kmesh-7" and
        .NODE_NAME == "node1" and .CLUSTER_ID == "Kubernetes" and .INSTANCE_IPS == "10.77.0.1"'
    # Another node's name, by the template's variable; an option comes first.
    daemon_stop TERM
    unset KMESH_NODE
    NODE_NAME=node7 POD_NAME=kmesh-8 daemon_start --xds "$XDS" --pod-namespace other
    eventually 5 heard '.metadata.NODE_NAME == "node7" and .metadata.NAME == "kmesh-8"'
    heard '.node | endswith("~kmesh-8.other~other.svc.cluster.local")'
}

@test "verify --against daemon: what a foreign hand did to what the control plane says is found" {
    town
    client_mesh
    plane_start
    plane_web a b
    xds_up
    ctl verify --against daemon
    local map=$KMESH_BPF_ROOT/maps/kmesh_frontend key
    # The VIP leads nowhere now.
    key=$(bpftool -j map dump pinned "$map" |
        jq -r '.[].key | map(ltrimstr("0x")) | join(" ") | select(contains("0a 60 00 0a"))')
    # shellcheck disable=SC2086 # bytes are words
    bpftool map delete pinned "$map" key hex $key
    names_only leak
    ctl verify --against daemon -o json >"$W/found" || [ $? -eq 1 ]
    jq -e '[.findings[] | select(.layer == "difference") | .object] | any(contains("default/web"))' \
        "$W/found"
    # A restart compares everything.
    daemon_stop TERM
    xds_up
    names_only a b
    ctl verify --against daemon
}

@test "each way in which TLS, token, name or address can be wrong is said with what helps" {
    town
    client_mesh
    plane_start --pki "$W/pki" --name other.example
    plane_web a b
    echo good >"$W/token"
    wrong "nobody listens there" https://127.0.0.1:9
    wrong "its certificate is not for istiod.istio-system.svc" https://127.0.0.1:15010
    wrong "read the service account's token $W/none" https://127.0.0.1:15010 --xds-token "$W/none"
    wrong "read the control plane's root certificate $W/none" https://127.0.0.1:15010 \
        --xds-root-cert "$W/none"
    wrong "holds no certificate" https://127.0.0.1:15010 --xds-root-cert "$W/token"
    wrong "Does the port expect TLS" http://127.0.0.1:15010
    wrong "its name is not known" https://no-such-host.invalid:15012
    stop_bg plane KILL
    cp "$W/pki/root.pem" "$W/old.pem"
    plane_start --pki "$W/pki" --token other
    wrong "is not signed by $W/old.pem" https://127.0.0.1:15010 --xds-root-cert "$W/old.pem"
    wrong "The token is not accepted" https://127.0.0.1:15010
    stop_bg plane KILL
    plane_start --pki "$W/pki"
    plane_tell '{"faults":{"status":7}}'
    wrong "namespace and service account must be those of" https://127.0.0.1:15010
    stop_bg plane KILL
    plane_start
    wrong "does not speak TLS" https://127.0.0.1:15010
    says "write https://HOST:PORT" "$KMESH_BIN/kmeshd" --xds istiod:15012
}

# wrong WORDS URL OPTION…: a daemon with these options says the words, and is not ready.
wrong() {
    local words=$1 url=$2
    shift 2
    : >"$W/log/kmeshd"
    KMESH_XDS_ROOT_CERT=$W/pki/root.pem KMESH_XDS_TOKEN=$W/token daemon_start --xds "$url" "$@"
    eventually 15 log_says "$words"
    fails daemon_is_ready
    daemon_stop KILL
}

fails() {
    if "$@"; then fail "it succeeded: $*"; fi
}
