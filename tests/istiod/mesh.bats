#!/usr/bin/env bats
# shellcheck disable=SC2154,SC2119 # set by lib.bash
# The same for waypoints and policies, for istiod's restarts, and for its size.

load ../bats/lib
load ../bats/town
load ../bats/traffic
load kube

setup() {
    world_begin
    town
    istiod_start
}

teardown() {
    world_end
}

# ---- waypoints ----

# gateway [NAMESPACE/]NAME TYPE=ADDRESS [LABELS]: a waypoint that is ready
gateway() {
    object Gateway "$1" "$(jq -n --arg type "${2%=*}" --arg value "${2#*=}" --argjson labels "${3-"{}"}" '{
        metadata: {labels: $labels}, spec: {gatewayClassName: "istio-waypoint",
            listeners: [{name: "mesh", port: 15008, protocol: "HBONE",
                allowedRoutes: {namespaces: {from: "All"}}}]},
        status: {addresses: [{type: $type, value: $value}]}}')"
}

# A waypoint's service and pods; the pod is the test's pod of that name.
waypoint_objects() {
    local name=${1#*/}
    service_object "$1" "$2" "$(jq -n --arg name "$name" '{
        metadata: {labels: {"gateway.istio.io/managed": "istio.io-mesh-controller",
            "gateway.networking.k8s.io/gateway-name": $name}},
        spec: {selector: {"gateway.networking.k8s.io/gateway-name": $name},
            ports: [{name: "mesh", port: 15008, targetPort: 15008, protocol: "TCP"}]}}')" | jq 'del(.spec.selector.set)'
    pod_object "$1" "$(jq -n --arg name "$name" '{metadata: {labels: {set: "waypoint",
        "gateway.istio.io/managed": "istio.io-mesh-controller",
        "gateway.networking.k8s.io/gateway-name": $name}}}')"
}

TLV4=01000000060a60000a0050fe00000000
TLVA=01000000060a4d000b1f90fe00000000
HELLO=68656c6c6f

@test "waypoints of services, namespaces and workloads" {
    pod w 10.77.0.21 fd77::21
    hear w w 15019
    web a b
    { waypoint_objects w 10.96.0.40 && gateway w IPAddress=10.96.0.40; } | apply
    governed_by_istiod client
    becomes "a:8080 b:8080" web 80
    # By its address.
    service_object web 10.96.0.10,fd96::10 '{"metadata": {"labels": {"istio.io/use-waypoint": "w"}}}' | apply
    becomes "a:8080 b:8080 via /10.96.0.40" web 80
    says_of "w:15019" /10.96.0.40 15019 ipv4 waypoint
    reaches w $TLV4$HELLO client 10.96.0.10:80
    workload_says '.[0].isWaypoint' /w
    # By its hostname.
    gateway w Hostname=w.default.svc.cluster.local | apply
    becomes "a:8080 b:8080 via default/w.default.svc.cluster.local" web 80
    says_of "w:15019" default/w.default.svc.cluster.local 15019 ipv4 waypoint
    reaches w $TLV4$HELLO client 10.96.0.10:80
    workload_says '.[0].waypoint == null' /a
    # For workloads, too.
    gateway w Hostname=w.default.svc.cluster.local '{"istio.io/waypoint-for": "all"}' | apply
    pod_object a '{"metadata": {"labels": {"istio.io/use-waypoint": "w"}}}' | apply
    eventually 10 workload_says '.[0].waypoint.name == "default/w.default.svc.cluster.local"' /a
    reaches w $TLVA$HELLO client 10.77.0.11:8080
    # For workloads only: the service has none any more.
    gateway w Hostname=w.default.svc.cluster.local '{"istio.io/waypoint-for": "workload"}' | apply
    becomes "a:8080 b:8080" web 80
    workload_says '.[0].waypoint.name == "default/w.default.svc.cluster.local"' /a
    # Of the namespace; the object's own label goes before; `none` opts out.
    gateway w Hostname=w.default.svc.cluster.local | apply
    { namespace_object default '{"istio.io/use-waypoint": "w"}'; service_object web 10.96.0.10,fd96::10
        service_object opted 10.96.0.41 '{"metadata": {"labels": {"istio.io/use-waypoint": "none"}}}'; pod_object a; } | apply
    becomes "a:8080 b:8080 via default/w.default.svc.cluster.local" web 80
    becomes "a:8080 b:8080" opted 80
    says_of "w:15008" w 15008
    # One that is not there, or may not be used from here: Istio names none.
    service_object opted 10.96.0.41 '{"metadata": {"labels": {"istio.io/use-waypoint": "absent"}}}' | apply
    settled
    says_of "a:8080 b:8080" opted 80
    # Of another namespace.
    { waypoint_objects other/w 10.96.0.42 && gateway other/w Hostname=w.other.svc.cluster.local; } | apply
    service_object opted 10.96.0.41 '{"metadata": {"labels":
        {"istio.io/use-waypoint": "w", "istio.io/use-waypoint-namespace": "other"}}}' | apply
    becomes "a:8080 b:8080 via other/w.other.svc.cluster.local" opted 80
    # Its pods go: refused, never around it. It goes altogether: Istio names none any more.
    delete Pod w
    becomes "" default/w.default.svc.cluster.local 15019 ipv4 waypoint
    answered_by client "$WEB4" 3 refused
    delete Gateway w
    delete Service w
    becomes "a:8080 b:8080" web 80
    answered_by client "$WEB4" 20 a b
    ctl verify
    nothing_refused
}

# ---- policies ----

A=10.77.0.11:8080

# policy [NAMESPACE/]NAME SPEC
policy() {
    object AuthorizationPolicy "$1" "{\"spec\": $2}"
}

# lets_in / keeps_out SPEC: with this one policy the client reaches a, or is refused
lets_in() {
    policy one "$1" | apply
    eventually 10 in_force "$1" || return 1
    answered_by client "$A" 2 a || { fail "kept out by $1"; return 1; }
}

keeps_out() {
    policy one "$1" | apply
    eventually 10 in_force "$1" || return 1
    answered_by client "$A" 2 refused || { fail "let in by $1"; return 1; }
}

# What was applied is in the tables: a mark that is told later is there.
in_force() {
    [ "${IN_FORCE-}" = "$1" ] || { settled && IN_FORCE=$1; }
}

@test "authorization policies decide as Istio says" {
    { for pod in client a b; do pod_object "$pod"; done; } | apply
    governed_by_istiod client a
    eventually 10 answered_by client "$A" 1 a
    keeps_out '{}'
    lets_in '{"rules": [{}]}'
    keeps_out '{"action": "DENY", "rules": [{}]}'
    lets_in '{"action": "DENY"}'
    lets_in '{"rules": [{"from": [{"source": {"principals": ["cluster.local/ns/default/sa/client"]}}]}]}'
    keeps_out '{"rules": [{"from": [{"source": {"principals": ["cluster.local/ns/default/sa/b"]}}]}]}'
    lets_in '{"rules": [{"from": [{"source": {"principals": ["*/sa/client"]}}]}]}'
    lets_in '{"rules": [{"from": [{"source": {"principals": ["cluster.local/ns/default/*"]}}]}]}'
    lets_in '{"rules": [{"from": [{"source": {"principals": ["*"]}}]}]}'
    keeps_out '{"rules": [{"from": [{"source": {"notPrincipals": ["*"]}}]}]}'
    lets_in '{"rules": [{"from": [{"source": {"namespaces": ["default"], "notPrincipals": ["x/*"]}}]}]}'
    keeps_out '{"rules": [{"from": [{"source": {"namespaces": ["other"]}}]}]}'
    keeps_out '{"action": "DENY", "rules": [{"from": [{"source": {"notNamespaces": ["other"]}}]}]}'
    lets_in '{"rules": [{"from": [{"source": {"serviceAccounts": ["client"]}}]}]}'
    lets_in '{"rules": [{"from": [{"source": {"serviceAccounts": ["other/x", "default/client"]}}]}]}'
    keeps_out '{"rules": [{"from": [{"source": {"notServiceAccounts": ["client"]}}]}]}'
    lets_in '{"rules": [{"from": [{"source": {"ipBlocks": ["10.77.0.9/16"]}}]}]}'
    keeps_out '{"rules": [{"from": [{"source": {"ipBlocks": ["10.77.0.0/16"], "notIpBlocks": ["10.77.0.2"]}}]}]}'
    keeps_out '{"rules": [{"from": [{"source": {"ipBlocks": ["fd77::/64"]}}]}]}'
    lets_in '{"rules": [{"to": [{"operation": {"ports": ["8080"]}}]}]}'
    keeps_out '{"rules": [{"to": [{"operation": {"notPorts": ["8080", "9090"]}}]}]}'
    keeps_out '{"action": "DENY", "rules": [{"to": [{"operation": {"ports": ["8080"]}}],
        "from": [{"source": {"namespaces": ["def*"]}}]}]}'
    lets_in '{"rules": [{"when": [{"key": "source.ip", "values": ["10.77.0.2"]},
        {"key": "destination.port", "notValues": ["80"]}, {"key": "source.namespace", "values": ["*ault"]},
        {"key": "destination.ip", "values": ["10.77.0.11"]}]}]}'
    # What a waypoint alone can judge: ALLOW without it allows nobody; DENY judges the rest.
    keeps_out '{"rules": [{"to": [{"operation": {"methods": ["GET"]}}]}]}'
    keeps_out '{"action": "DENY", "rules": [{"to": [{"operation": {"methods": ["GET"], "ports": ["8080"]}}]}]}'
    lets_in '{"action": "DENY", "rules": [{"to": [{"operation": {"methods": ["GET"], "ports": ["81"]}}]}]}'
    # For whom it is.
    keeps_out '{"selector": {"matchLabels": {"app": "a"}}}'
    lets_in '{"selector": {"matchLabels": {"app": "b"}}}'
    lets_in '{"targetRefs": [{"kind": "Service", "name": "a", "group": ""}]}'
    policy one '{}' | jq '.metadata.annotations = {"istio.io/dry-run": "true"}' | apply
    settled
    answered_by client "$A" 2 a
    # Of the root namespace: everybody's; selecting: those pods'.
    delete AuthorizationPolicy one
    policy istio-system/all '{"action": "DENY", "rules": [{"from": [{"source": {"namespaces": ["default"]}}]}]}' | apply
    eventually 10 answered_by client "$A" 1 refused
    policy istio-system/all '{"action": "DENY", "selector": {"matchLabels": {"app": "b"}}, "rules": [{}]}' | apply
    eventually 10 answered_by client "$A" 1 a
    policy istio-system/all '{"action": "DENY", "selector": {"matchLabels": {"app": "a"}}, "rules": [{}]}' | apply
    eventually 10 answered_by client "$A" 1 refused
    # The pod's labels change, then the policy goes.
    pod_object a '{"metadata": {"labels": {"app": "x"}}}' | apply
    eventually 10 answered_by client "$A" 1 a
    pod_object a | apply
    eventually 10 answered_by client "$A" 1 refused
    delete AuthorizationPolicy istio-system/all
    eventually 10 answered_by client "$A" 1 a
    ctl verify
    nothing_refused
}

# peer [NAMESPACE/]NAME SPEC
peer() {
    object PeerAuthentication "$1" "{\"spec\": $2}"
}

@test "peer authentication: known pods may come, strangers only where it is permissive" {
    pod stranger 10.77.0.3 fd77::3
    { for pod in client a; do pod_object "$pod"; done; } | apply
    governed_by_istiod client a
    eventually 10 answered_by stranger "$A" 1 a
    peer strict '{"selector": {"matchLabels": {"app": "a"}}, "mtls": {"mode": "STRICT"}}' | apply
    eventually 10 answered_by stranger "$A" 1 refused
    answered_by client "$A" 2 a
    peer strict '{"selector": {"matchLabels": {"app": "a"}}, "mtls": {"mode": "STRICT"},
        "portLevelMtls": {"8080": {"mode": "PERMISSIVE"}}}' | apply
    eventually 10 answered_by stranger "$A" 1 a
    peer strict '{"selector": {"matchLabels": {"app": "a"}}, "mtls": {"mode": "PERMISSIVE"},
        "portLevelMtls": {"8080": {"mode": "STRICT"}}}' | apply
    eventually 10 answered_by stranger "$A" 1 refused
    answered_by client "$A" 2 a
    delete PeerAuthentication strict
    eventually 10 answered_by stranger "$A" 1 a
    peer default '{"mtls": {"mode": "STRICT"}}' | apply
    eventually 10 answered_by stranger "$A" 1 refused
    peer default '{"mtls": {"mode": "PERMISSIVE"}}' | apply
    eventually 10 answered_by stranger "$A" 1 a
    peer istio-system/default '{"mtls": {"mode": "STRICT"}}' | apply
    delete PeerAuthentication default
    eventually 10 answered_by stranger "$A" 1 refused
    answered_by client "$A" 2 a
    delete PeerAuthentication istio-system/default
    eventually 10 answered_by stranger "$A" 1 a
    ctl verify
    nothing_refused
}

# ---- networks, TLS, restarts, size ----

@test "a mesh whose network has a name: the daemon is told it, or says what is missing" {
    namespace_object istio-system '{"topology.istio.io/network": "net1"}' | apply
    web a b
    object WorkloadEntry far '{"metadata": {"labels": {"set": "web"}}, "spec": {"address": "10.99.0.1",
        "network": "net2", "labels": {"set": "web"}}}' | apply
    govern client
    daemon_up --xds "$XDS" --network net1
    becomes "a:8080 b:8080" web 80
    answered_by client "$WEB4" 10 a b
    daemon_stop
    daemon_up --xds "$XDS"
    becomes - web 80
    eventually 40 log_says "in other networks (net1; this node's is \"\", by --network)"
    nothing_refused
}

@test "over TLS, with a token" {
    web a
    echo -n kmesh-system/kmesh >"$W/token"
    govern client
    daemon_up --xds "$XDS_TLS" --xds-root-cert "$W/root.pem" --xds-token "$W/token" \
        --pod-name kmesh-node1 --pod-namespace kmesh-system --service-account kmesh
    becomes "a:8080" web 80
    daemon_stop
    # A token that is not good.
    echo -n nobody >"$W/token"
    daemon_start --xds "$XDS_TLS" --xds-root-cert "$W/root.pem" --xds-token "$W/token" \
        --pod-name kmesh-node1 --pod-namespace kmesh-system --service-account kmesh
    eventually 10 says "token" in_node curl -s "http://$KMESH_ADMIN/healthz/ready"
    answered_by client "$WEB4" 3 a
    # It is renewed: read again, without a restart.
    echo -n kmesh-system/kmesh >"$W/token"
    daemon_ready 30
}

@test "istiod restarts, with the same and with nothing" {
    web a b
    governed_by_istiod client
    becomes "a:8080 b:8080" web 80
    probe_web a,b --every-ms 5
    stop_bg istiod KILL
    istiod_start
    web a b
    eventually 30 xds_connected
    sleep 1
    # It had nothing, or a part, for a moment.
    says_of "a:8080 b:8080" web 80
    stop_bg istiod KILL
    istiod_start
    eventually 30 xds_connected
    sleep 2
    says_of "a:8080 b:8080" web 80
    expect_web a,b,c
    web a b c
    becomes "a:8080 b:8080 c:8080" web 80
    prober_stop 100
    ctl verify
    nothing_refused
}

xds_connected() {
    in_node curl -s "http://$KMESH_ADMIN/healthz/ready" >/dev/null && bg_alive istiod && bg_alive kmeshd
}

@test "6,000 pods, and 500 that change" {
    web a b
    {
        service_object many 10.96.0.50 '{"spec": {"selector": {"set": "many"}}}'
        many 0 6000
    } | apply
    governed_by_istiod client
    many_are 6000
    # A burst: a tenth is not ready, a tenth goes.
    many 0 250 "$NOT_READY" | apply
    many 250 500 | removed
    many_are 5500
    answered_by client "$WEB4" 20 a b
    daemon_stop KILL
    governed_by_istiod client
    in_node curl -s "http://$KMESH_ADMIN/metrics" | grep -qx 'kmesh_map_elements_written_total 0'
    ctl verify
    nothing_refused
}

# many FROM TO [JSON]: pods of service many
many() {
    jq -cn --argjson from "$1" --argjson to "$2" --argjson more "${3-"{}"}" 'range($from; $to) | {
        apiVersion: "v1", kind: "Pod",
        metadata: {name: "m-\(.)", namespace: "default", labels: {app: "m", set: "many"}},
        spec: {nodeName: "node2", serviceAccountName: "m"},
        status: {phase: "Running", podIP: "10.78.\(. / 250 | floor).\(. % 250)",
            podIPs: [{ip: "10.78.\(. / 250 | floor).\(. % 250)"}],
            conditions: [{type: "Ready", status: "True"}]}} * $more'
}

many_are() {
    eventually 60 many_counts "$1"
}

many_counts() {
    ctl dump all -o json | jq -e --argjson want "$1" '[.services[]
        | select(.name == "default/many.default.svc.cluster.local") | .endpoints | length] == [$want]' >/dev/null
}
