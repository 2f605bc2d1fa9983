#!/usr/bin/env bats
# shellcheck disable=SC2154,SC2119 # set by lib.bash
# Istio's own control plane says which services there are; after each step the tables and real
# connections are what the objects say. `just proof-istiod`.

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

# ---- pods and services ----

@test "pods come, are ready or not, terminate, succeed and go" {
    web a b
    pod_object client '{"metadata": {"labels": {"set": "client"}}}' | apply
    governed_by_istiod client
    becomes "a:8080 b:8080" web 80
    says_of "a:8080 b:8080" web 80 ipv6
    answered_by client "$WEB4" 20 a b
    answered_by client "$WEB6" 20 a b
    pod_object c | apply
    becomes "a:8080 b:8080 c:8080" web 80
    pod_object c "$NOT_READY" | apply
    becomes "a:8080 b:8080" web 80
    # Its own address is its identity, ready or not.
    workload_says '.[0].addresses == ["10.77.0.13", "fd77::13"]' /c
    pod_object c | apply
    becomes "a:8080 b:8080 c:8080" web 80
    pod_object a '{"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x/y"]}}' | apply
    becomes "b:8080 c:8080" web 80
    answered_by client "$WEB4" 20 b c
    pod_object b '{"status": {"phase": "Succeeded"}}' | apply
    becomes "c:8080" web 80
    workload_says '. == []' /b
    # A pod on the host's network serves, and no address leads to it. One without address is none.
    pod_object b '{"spec": {"hostNetwork": true}}' | apply
    pod_object pending '{"status": {"phase": "Pending", "podIP": null, "podIPs": []}}' | apply
    becomes "b:8080 c:8080" web 80
    workload_says 'length == 1 and .[0].addresses == null' /b
    workload_says '. == []' /pending
    delete Pod b
    delete Pod c
    delete Pod a
    becomes "" web 80
    answered_by client "$WEB4" 3 refused
    # Its address is another pod's in the same moment.
    pod_object d '{"status": {"podIP": "10.77.0.11", "podIPs": [{"ip": "10.77.0.11"}]}}' | apply
    becomes "d:8080" web 80
    answered_by client "$WEB4" 3 a
    delete Service web
    becomes - web 80
    ctl verify
    nothing_refused
}

@test "services of every kind" {
    web a b
    {
        pod_object far '{"spec": {"nodeName": "node3"}, "status": {"podIPs": [{"ip": "10.77.3.1"}]}}'
        pod_object near '{"spec": {"nodeName": "node2"}, "status": {"podIPs": [{"ip": "10.77.3.2"}]}}'
        pod_object late "$(jq -n --argjson a "$NOT_READY" '$a * {status: {podIPs: [{ip: "10.77.3.3"}]}}')"
        service_object headless None
        service_object named 10.96.0.12 '{"spec": {"ports": [{"name": "x", "port": 80, "targetPort": "http"},
            {"name": "y", "port": 81, "targetPort": "absent"}]}}'
        service_object ports 10.96.0.13 '{"spec": {"ports": [{"name": "x", "port": 80, "targetPort": 8080},
            {"name": "y", "port": 81, "targetPort": 8080}, {"name": "z", "port": 65535, "targetPort": 1}]}}'
        service_object dns 10.96.0.14 '{"spec": {"ports": [
            {"name": "dns", "port": 53, "targetPort": 5353, "protocol": "UDP"},
            {"name": "dns-tcp", "port": 53, "targetPort": 8080, "protocol": "TCP"}]}}'
        service_object six fd96::15
        service_object early 10.96.0.16 '{"spec": {"publishNotReadyAddresses": true}}'
        service_object local 10.96.0.17 '{"spec": {"internalTrafficPolicy": "Local"}}'
        service_object close 10.96.0.18 '{"spec": {"trafficDistribution": "PreferClose"}}'
        service_object closer 10.96.0.19 '{"spec": {"trafficDistribution": "PreferSameNode"}}'
        object Service outside '{"spec": {"type": "ExternalName", "externalName": "example.org"}}'
        service_object other/web 10.96.0.20
        service_object nobody 10.96.0.21 '{"spec": {"selector": {"set": "nobody"}}}'
    } | apply
    governed_by_istiod client
    becomes "a:8080 b:8080 far:8080 near:8080" web 80
    says_of - headless 80
    says_of "a:8080 b:8080 far:8080 near:8080" named 80
    says_of "" named 81
    says_of "a:8080 b:8080 far:8080 near:8080" ports 81
    says_of "a:1 b:1 far:1 near:1" ports 65535
    says_of "a:8080 b:8080 far:8080 near:8080" dns 53
    says_of "a:8080 b:8080 far:8080! near:8080!" six 80 ipv6
    says_of - six 80
    says_of "a:8080 b:8080 far:8080 late:8080 near:8080" early 80
    says_of "a:8080 b:8080 strict" local 80
    says_of "a:8080 b:8080 failover" close 80
    says_of "a:8080 b:8080 failover" closer 80
    says_of - outside 80
    says_of "" other/web.other.svc.cluster.local 80
    says_of "" nobody 80
    answered_by client 10.96.0.17:80 20 a b
    # Nobody near is left: the same zone, the same region, anybody.
    delete Pod a
    delete Pod b
    becomes "near:8080 failover" close 80
    becomes "strict" local 80
    answered_by client 10.96.0.17:80 3 refused
    delete Pod near
    becomes "far:8080 failover" close 80
    # A service changes its kind, its ports and its address.
    service_object close 10.96.0.18 '{"spec": {"ports": [{"name": "http", "port": 8088, "targetPort": 8081}]}}' | apply
    becomes "far:8081" close 8088
    says_of - close 80
    service_object close 10.96.0.28,fd96::28 | apply
    becomes "far:8080" close 80
    service_object close None | apply
    becomes - close 80
    ctl verify
    nothing_refused
}

@test "services without selector, and the API server's" {
    {
        service_object bare 10.96.0.30 '{"spec": {"selector": null}}'
        object EndpointSlice bare-1 '{"metadata": {"labels": {"kubernetes.io/service-name": "bare"}},
            "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.77.0.11"], "conditions": {"ready": true}},
                {"addresses": ["10.77.0.12"], "conditions": {"ready": false}}, {"addresses": ["10.77.0.13"]}]}'
        service_object kubernetes 10.96.0.1 '{"spec": {"selector": null,
            "ports": [{"name": "https", "port": 443, "targetPort": 6443, "protocol": "TCP"}]}}'
        object EndpointSlice kubernetes '{"metadata": {"labels": {"kubernetes.io/service-name": "kubernetes"}},
            "addressType": "IPv4", "ports": [{"name": "https", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.77.0.11"], "conditions": {"ready": true}}]}'
    } | apply
    governed_by_istiod client
    becomes "10.77.0.11:8080 10.77.0.13:8080" bare 80
    answered_by client 10.96.0.30:80 20 a c
    says_of "10.77.0.11:8080" kubernetes 443
    answered_by client 10.96.0.1:443 3 a
    # The endpoints' pods appear: their addresses are the pods'.
    pod_object a | apply
    eventually 10 workload_says '.[0].addresses == ["10.77.0.11", "fd77::11"]' /a
    says_of "10.77.0.11:8080 10.77.0.13:8080" bare 80
    # A slice that names the pod itself.
    object EndpointSlice bare-1 "$(jq -n '{metadata: {labels: {"kubernetes.io/service-name": "bare"}},
        addressType: "IPv4", ports: [{name: "http", port: 8080, protocol: "TCP"}],
        endpoints: [{addresses: ["10.77.0.11"], conditions: {ready: true},
            targetRef: {kind: "Pod", name: "b", namespace: "default", uid: "b"}}]}')" | apply
    pod_object b '{"metadata": {"uid": "b"}}' | apply
    becomes "b:8080" bare 80
    delete EndpointSlice kubernetes
    becomes "" kubernetes 443
    ctl verify
    nothing_refused
}

# ---- entries ----

# entry NAME HOSTS SPEC: a ServiceEntry with port 80 to 8080
entry() {
    object ServiceEntry "$1" "$(jq -n --arg hosts "$2" --argjson more "$3" '{spec: ({
        hosts: ($hosts | split(",")), location: "MESH_EXTERNAL",
        ports: [{number: 80, targetPort: 8080, name: "http", protocol: "HTTP"}]} * $more)}')"
}

@test "service entries: static, by name, passed through, selecting" {
    bg dns node_exec python3 "$BATS_TEST_DIRNAME/dns.py" 127.0.0.1 5300 db.example=10.77.0.12
    {
        entry static one.example,two.example '{"addresses": ["10.96.1.1", "10.96.1.2/32", "10.96.9.0/24", "fd96::101"],
            "resolution": "STATIC", "endpoints": [{"address": "10.77.0.11"}, {"address": "10.77.0.12", "ports": {"http": 8081}},
            {"address": "10.77.0.13", "network": "elsewhere"}]}'
        entry named db.example '{"addresses": ["10.96.1.3"], "resolution": "DNS"}'
        entry points other.example '{"addresses": ["10.96.1.4"], "resolution": "DNS",
            "endpoints": [{"address": "db.example"}, {"address": "10.77.0.11", "weight": 3}]}'
        entry absent nowhere.example '{"addresses": ["10.96.1.5"], "resolution": "DNS"}'
        entry passed passed.example '{"addresses": ["10.96.1.6"], "resolution": "NONE"}'
        entry ranged ranged.example '{"addresses": ["10.96.2.0/24", "224.0.0.1", "0.0.0.0"], "resolution": "NONE"}'
        entry wild '*.wild.example' '{"addresses": ["10.96.1.7"], "resolution": "NONE"}'
        entry selecting chosen.example '{"addresses": ["10.96.1.8"], "resolution": "STATIC", "location": "MESH_INTERNAL",
            "workloadSelector": {"labels": {"set": "web"}}}'
        entry late auto.example '{"resolution": "STATIC", "endpoints": [{"address": "10.77.0.11"}]}'
        entry pipe pipe.example '{"addresses": ["10.96.1.9"], "resolution": "STATIC", "endpoints": [{"address": "unix:///var/run/x"}]}'
        pod_object a
        object WorkloadEntry vm '{"metadata": {"labels": {"set": "web"}}, "spec": {"address": "10.77.0.12",
            "labels": {"set": "web"}, "serviceAccount": "vm", "ports": {"http": 8080}, "weight": 5, "locality": "r1/z1"}}'
        object WorkloadEntry named '{"spec": {"address": "db.example", "labels": {"set": "named"}}}'
        service_object plain 10.96.1.20
    } | apply
    govern client
    daemon_up --xds "$XDS" --dns-server 127.0.0.1:5300
    becomes "10.77.0.11:8080 10.77.0.12:8081" default/one.example 80
    # Its other host has the same addresses: one of them has the port.
    says_of - default/two.example 80
    ctl dump all -o json | jq -e '[.services[] | select(.name == "default/one.example") | .vips[]?]
        | sort == ["10.96.1.1", "10.96.1.2", "fd96::101"]'
    becomes "db.example:8080" default/db.example 80
    answered_by client 10.96.1.3:80 3 b
    says_of "10.77.0.11:8080 db.example:8080" default/other.example 80
    answered_by client 10.96.1.4:80 20 a b
    becomes "" default/nowhere.example 80
    says_of "passthrough" default/passed.example 80
    answered_by client 10.96.1.6:80 3 leak
    says_of - default/ranged.example 80
    says_of "passthrough" 'default/*.wild.example' 80
    becomes "a:8080 vm:8080" default/chosen.example 80
    answered_by client 10.96.1.8:80 20 a b
    workload_says '.[0].identity == "cluster.local/ns/default/sa/vm"' /WorkloadEntry/default/vm
    # An address that istiod allocated stands in the status.
    object ServiceEntry late '{"spec": {"hosts": ["auto.example"], "resolution": "STATIC",
        "ports": [{"number": 80, "targetPort": 8080, "name": "http", "protocol": "HTTP"}],
        "endpoints": [{"address": "10.77.0.11"}]},
        "status": {"addresses": [{"value": "10.96.3.1", "host": "auto.example"}]}}' | apply
    becomes "10.77.0.11:8080" default/auto.example 80
    delete ServiceEntry static
    becomes - default/one.example 80
    delete WorkloadEntry vm
    becomes "a:8080" default/chosen.example 80
    ctl verify
    nothing_refused
}
