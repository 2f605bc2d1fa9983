#!/usr/bin/env bats
# shellcheck disable=SC2154,SC2119 # set by lib.bash
# What few meshes say, and what any may become in a day: a random walk.

load ../bats/lib
load ../bats/town
load ../bats/traffic
load kube

setup() {
    world_begin
    town
}

teardown() {
    world_end
}

# mesh_config YAML
mesh_config() {
    jq -n --arg mesh "$1" '{apiVersion: "v1", kind: "ConfigMap",
        metadata: {name: "istio", namespace: "istio-system"}, data: {mesh: $mesh}}' | apply
}

# entry [NAMESPACE/]NAME HOST ADDRESS ENDPOINT
entry() {
    object ServiceEntry "$1" "$(jq -n --arg host "$2" --arg address "$3" --arg endpoint "$4" '{spec: {
        hosts: [$host], addresses: [$address], location: "MESH_EXTERNAL", resolution: "STATIC",
        ports: [{number: 80, targetPort: 8080, name: "http", protocol: "HTTP"}],
        endpoints: [{address: $endpoint}]}}')"
}

# way NAME ADDRESS POD-IP: a waypoint that is ready, by its hostname
way() {
    service_object "$1" "$2" '{"metadata": {"labels": {"gateway.istio.io/managed": "istio.io-mesh-controller"}},
        "spec": {"ports": [{"name": "mesh", "port": 15008, "targetPort": 15008, "protocol": "TCP"}]}}' |
        jq --arg name "$1" '.spec.selector = {gw: $name}'
    pod_object "$1" "$(jq -n --arg name "$1" --arg ip "$3" '{
        metadata: {labels: {set: "way", gw: $name, "gateway.networking.k8s.io/gateway-name": $name}},
        status: {podIP: $ip, podIPs: [{ip: $ip}]}}')"
    object Gateway "$1" "$(jq -n --arg host "$1.default.svc.cluster.local" '{spec: {gatewayClassName: "istio-waypoint",
        listeners: [{name: "mesh", port: 15008, protocol: "HBONE"}]},
        status: {addresses: [{type: "Hostname", value: $host}]}}')"
}

@test "who claims another one's VIP or address does not get it" {
    istiod_start
    web a
    {
        entry other/aaa aaa.example 10.96.0.10 10.77.0.12
        entry other/web web.default.svc.cluster.local 10.96.0.10 10.77.0.12
        entry other/spy spy.example 10.96.5.1 10.77.0.13
        pod_object c "$NOT_READY"
    } | apply
    governed_by_istiod client
    becomes "a:8080" web 80
    says_of - other/aaa.example 80
    says_of - other/web.default.svc.cluster.local 80
    answered_by client "$WEB4" 10 a
    # The pod is not ready: its address is its own all the same.
    workload_says '.[0].addresses == ["10.77.0.13", "fd77::13"]' Pod/default/c
    # The service goes: now it is free.
    delete Service web
    becomes "10.77.0.12:8080" other/aaa.example 80
    ctl verify
    nothing_refused
}

@test "another trust domain, visibility, policies that only watch" {
    istiod_start AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY=true PILOT_AUTO_ALLOW_WAYPOINT_POLICY=true
    mesh_config 'trustDomain: example.org
serviceEntryVisibility:
  defaultVisibility: NAMESPACE'
    web a b
    { entry private private.example 10.96.5.2 10.77.0.12; pod_object client; way w 10.96.0.40 10.77.0.21; } | apply
    governed_by_istiod client a
    eventually 10 workload_says '.[0].identity == "example.org/ns/default/sa/a"' /a
    becomes "10.77.0.12:8080" default/private.example 80
    object AuthorizationPolicy watch '{"metadata": {"annotations": {"istio.io/dry-run": "true"}}, "spec": {}}' | apply
    eventually 10 policy_says '.[0].dryRun' default/watch
    answered_by client 10.77.0.11:8080 2 a
    object AuthorizationPolicy only '{"spec": {"rules": [{"from": [{"source":
        {"principals": ["example.org/ns/default/sa/client"]}}]}]}}' | apply
    eventually 10 policy_says 'length == 1' default/only
    answered_by client 10.77.0.11:8080 2 a
    # Who has a waypoint lets the waypoint in, by a policy that istiod makes.
    service_object web 10.96.0.10 '{"metadata": {"labels": {"istio.io/use-waypoint": "w"}}}' | apply
    becomes "a:8080 b:8080 client:8080 via default/w.default.svc.cluster.local" web 80
    eventually 10 policy_says 'length == 1' default/istio_allow_waypoint_default_w
    workload_says '.[0].policies == ["default/istio_allow_waypoint_default_w"]' Pod/default/a
    ctl verify
    nothing_refused
}

# policy_says FILTER NAMESPACE/NAME
policy_says() {
    ctl dump all -o json | jq -e --arg name "$2" \
        "[.policies[] | select(\"\\(.namespace)/\\(.name)\" == \$name)] | $1" >/dev/null
}

@test "a waypoint and its canary: the first one is used" {
    istiod_start
    web a
    { way w 10.96.0.40 10.77.0.21; way x 10.96.0.41 10.77.0.22; } | apply
    service_object web 10.96.0.10 '{"metadata": {"labels": {"istio.io/use-waypoint": "w",
        "istio.io/use-waypoint-canary": "x"}, "annotations": {"istio.io/use-waypoint-canary-weight": "50"}}}' | apply
    governed_by_istiod client
    becomes "a:8080 via default/w.default.svc.cluster.local" web 80
    says_of "w:15019" default/w.default.svc.cluster.local 15019 ipv4 waypoint
    nothing_refused
}

@test "istiod without ambient mode: nothing is touched, and it says what it waits for" {
    istiod_start
    web a
    governed_by_istiod client
    becomes "a:8080" web 80
    stop_bg istiod KILL
    istiod_start PILOT_ENABLE_AMBIENT=false
    web a
    daemon_stop KILL
    daemon_start --xds "$XDS"
    eventually 10 says "ambient mode is off" in_node curl -s "http://$KMESH_ADMIN/healthz/ready"
    answered_by client "$WEB4" 3 a
    bg_alive kmeshd
}

# ---- the walk ----

pick() {
    local all=("$@")
    echo "${all[RANDOM % ${#all[@]}]}"
}

random_pod() {
    local number=$((RANDOM % 12)) more
    if [ $((RANDOM % 4)) -eq 0 ]; then
        delete Pod "p$number" 2>/dev/null || true
        return
    fi
    more=$(pick '{}' '{}' "$NOT_READY" '{"spec": {"hostNetwork": true}}' '{"status": {"phase": "Failed"}}' \
        '{"metadata": {"labels": {"istio.io/use-waypoint": "w"}}}' '{"metadata": {"labels": {"set": "more"}}}' \
        '{"spec": {"nodeName": "node2"}}' '{"spec": {"serviceAccountName": "other"}}' \
        '{"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x/y"]}}')
    # Addresses are given again, sometimes while another pod has them.
    pod_object "p$number" "$(jq -n --arg ip "10.77.5.$((RANDOM % 14))" --argjson more "$more" \
        '{status: {podIP: $ip, podIPs: [{ip: $ip}]}} * $more')" | apply
}

random_service() {
    local number=$((RANDOM % 5))
    if [ $((RANDOM % 5)) -eq 0 ]; then
        delete Service "s$number" 2>/dev/null || true
        return
    fi
    service_object "s$number" "10.96.1.$number$(pick '' ",fd96::$number")" "$(pick '{}' '{}' \
        '{"spec": {"selector": {"set": "more"}}}' '{"spec": {"publishNotReadyAddresses": true}}' \
        '{"spec": {"internalTrafficPolicy": "Local"}}' '{"spec": {"trafficDistribution": "PreferClose"}}' \
        '{"metadata": {"labels": {"istio.io/use-waypoint": "w"}}}' \
        '{"spec": {"ports": [{"name": "a", "port": 81, "targetPort": "http", "protocol": "TCP"},
            {"name": "b", "port": 82, "targetPort": 9, "protocol": "TCP"}]}}')" | apply
}

random_rest() {
    case $((RANDOM % 6)) in
    0) entry "e$((RANDOM % 3))" "e$((RANDOM % 3)).example" "10.96.1.$((RANDOM % 8))" "10.77.5.$((RANDOM % 14))" | apply ;;
    1) delete ServiceEntry "e$((RANDOM % 3))" 2>/dev/null || true ;;
    2) object AuthorizationPolicy "a$((RANDOM % 3))" "$(pick '{"spec": {}}' \
        '{"spec": {"selector": {"matchLabels": {"set": "more"}}, "rules": [{}]}}' \
        '{"spec": {"action": "DENY", "rules": [{"to": [{"operation": {"ports": ["81"]}}]}]}}')" | apply ;;
    3) delete AuthorizationPolicy "a$((RANDOM % 3))" 2>/dev/null || true ;;
    4) object PeerAuthentication p "$(pick '{"spec": {"mtls": {"mode": "STRICT"}}}' '{"spec": {}}')" | apply ;;
    5) namespace_object default "$(pick '{}' '{}' '{"istio.io/use-waypoint": "w"}')" | apply ;;
    esac
}

# What the tables say, without what is about this run.
state() {
    ctl dump all -o json | jq -S '{services, workloads, policies}'
}

@test "a random walk ends where a fresh start does" {
    local round
    istiod_start
    way w 10.96.0.40 10.77.0.21 | apply
    governed_by_istiod client
    for round in 1 2 3; do
        for _ in $(seq 60); do
            case $((RANDOM % 5)) in
            0 | 1) random_pod ;;
            2 | 3) random_service ;;
            4) random_rest ;;
            esac
        done
        settled
        sleep 1
        state >"$W/walked"
        ctl verify
        # A daemon that knows nothing, on tables of its own.
        daemon_stop KILL
        (
            export KMESH_BPF_ROOT=$W/bpf/fresh$round KMESH_STATE_DIR=$W/state/fresh$round
            export KMESH_RUN_DIR=$W/run/fresh$round
            govern
            daemon_up --xds "$XDS"
            becomes "" "mark-$MARK" 80
            state >"$W/fresh"
            daemon_stop KILL
            ctl purge --yes >/dev/null
        )
        diff "$W/fresh" "$W/walked"
        governed_by_istiod client
    done
    nothing_refused
}
