#!/usr/bin/env bats
# A bad mesh file: each mistake gives an error with line and column or the object's name, at the
# start as well as at a reload, and the daemon keeps serving what was good.

bats_require_minimum_version 1.5.0

load lib
load town

setup() {
    world_begin
}

teardown() {
    world_end
}

# refused TEXT…: the mesh file is refused, and each text is part of the error; with a daemon that
# serves a good file, the reload says the same and nothing changes.
refused() {
    local bad text
    bad=$(cat)
    mesh <<<"$bad"
    run "$KMESH_BIN/kmeshd" snapshot --mesh "$MESH"
    [ "$status" -ne 0 ] || fail "accepted: $bad"
    for text in "$@"; do
        [[ $output == *"$text"* ]] || fail "expected '$text' in: $output"
    done
    web_mesh a b
    daemon_up
    mesh <<<"$bad"
    for text in "$@"; do
        eventually 5 log_says "$text"
    done
    bg_alive kmeshd
    answered_by client "$WEB4" 40 a b
    answered_by client "$WEB6" 40 a b
    web_mesh a
    eventually 5 answered_by client "$WEB4" 10 a
    eventually 5 daemon_is_ready
}

@test "text that is no YAML" {
    town
    refused "line 2 column" <<'END'
services:
  - name: [
END
}

@test "text that is no JSON" {
    town
    refused "line 2 column" <<'END'
{"services":
  [{"name": }]}
END
}

@test "an empty file" {
    town
    refused "empty" </dev/null
}

@test "an unknown field" {
    town
    refused "line 3 column" "nmae" <<'END'
services:
  - hostname: web.default.svc.cluster.local
    nmae: web
END
}

@test "a duplicate uid" {
    town
    refused "duplicate uid" "pod-1" <<'END'
workloads:
  - {uid: pod-1, name: one, namespace: default, workloadIps: [10.77.9.1]}
  - {uid: pod-1, name: two, namespace: default, workloadIps: [10.77.9.2]}
END
}

@test "a duplicate VIP" {
    town
    refused "duplicate VIP" "10.96.7.7" "default/two" <<'END'
services:
  - {name: one, namespace: default, hostname: one, vips: [/10.96.7.7], ports: {80: 80}}
  - {name: two, namespace: default, hostname: two, vips: [/10.96.7.7], ports: {80: 80}}
END
}

@test "a bad address" {
    town
    refused "10.77.9.999" "pod-1" <<'END'
workloads:
  - {uid: pod-1, name: one, namespace: default, workloadIps: [10.77.9.999]}
END
}

@test "a bad VIP" {
    town
    refused "bad VIP \"10.96.7.7\"" "default/one" "/10.96.7.7" <<'END'
services:
  - {name: one, namespace: default, hostname: one, vips: [10.96.7.7], ports: {80: 80}}
END
}

@test "port 0 of a service" {
    town
    refused "port 0" "default/one" <<'END'
services:
  - {name: one, namespace: default, hostname: one, vips: [/10.96.7.7], ports: {0: 80}}
END
}

@test "port 0 of an endpoint" {
    town
    refused "port 0" "pod-1" <<'END'
services:
  - {name: one, namespace: default, hostname: one, vips: [/10.96.7.7], ports: {80: 80}}
workloads:
  - {uid: pod-1, name: one, namespace: default, workloadIps: [10.77.9.1], services: {default/one: {80: 0}}}
END
}

@test "port 70000" {
    town
    refused "line 2 column" "70000" <<'END'
services:
  - {name: one, namespace: default, hostname: one, vips: [/10.96.7.7], ports: {70000: 80}}
END
}

@test "an endpoint of an unknown service" {
    town
    refused "unknown service" "default/nowhere" "pod-1" <<'END'
workloads:
  - {uid: pod-1, name: one, namespace: default, workloadIps: [10.77.9.1], services: {default/nowhere: {80: 80}}}
END
}

@test "a name of 300 characters" {
    town
    local long
    long=$(printf 'n%.0s' {1..300})
    refused "300" "default/nnn" <<END
services:
  - {name: $long, namespace: default, hostname: $long, vips: [/10.96.7.7], ports: {80: 80}}
END
}

@test "more services than the map holds: an error that names map, limit and option" {
    town
    web_mesh a b
    daemon_up --max-services 16
    probe_web a,b
    mesh_begin
    service web 10.96.0.10 fd96::10
    enrolled client
    workload a web
    local number
    for number in $(seq 20); do
        service "many-$number" "10.96.1.$number"
    done
    mesh_end
    eventually 5 log_says "map kmesh_service is too small: 22 elements are needed, its limit is 16"
    log_says --max-services
    bg_alive kmeshd
    # What needs no room is done all the same, and as much of the rest as fits.
    eventually 5 answered_by client "$WEB4" 20 a
    [ "$(ctl dump all -o json | jq '.services | length')" -eq 16 ]
    says "services, 0 workloads; the rest is in force" ctl status
    expect_web a,b
    web_mesh b
    eventually 5 answered_by client "$WEB4" 10 b
    prober_stop 50
}

@test "a namespace that is not there: named, the rest is served" {
    town
    mesh_begin
    service web 10.96.0.10 fd96::10
    enrolled client
    workload a web
    workload b
    also "netns: $W/netns/nowhere"
    mesh_end
    daemon_start
    eventually 5 log_says "$W/netns/nowhere"
    eventually 5 answered_by client "$WEB4" 5 a
}

# policies DOCUMENT…: pod a of this node, and these policies in namespace default
policies() {
    mesh_begin
    enrolled a
    { cat "$W/mesh.services" "$W/mesh.workloads"; echo "policies:"; printf '  - %s\n' "$@"; } | mesh
}

@test "a policy that makes no sense is refused by its name, and the good one stays in force" {
    local said head='namespace: default, scope: Namespace, action: Deny, rules' bad
    town
    policies "{name: good, $head: [[[{destinationPorts: [9]}]]]}"
    daemon_up
    while IFS='|' read -r bad said; do
        policies "{name: bad, $head: [[[$bad]]]}"
        eventually 5 log_says "policy default/bad: $said"
    done <<'END'
{sourceIps: [10.0.0.0/33]}|bad address range "10.0.0.0/33"
{destinationPorts: [0]}|group 1: port 0 is no port
{destinationPorts: [65536]}|port 65536: at most 65535
{principals: [{Exact: ''}]}|group 1: an empty principal
END
    ctl dump maps kmesh_policy kmesh_auth_set -o json |
        jq -e '[.policies[].name] == ["good"] and .policySets[0].policies == ["default/good"]'
}

@test "ten thousand principals, and a policy that selects nobody, are in force" {
    local many
    town
    many=$(seq -f '{Exact: td/ns/default/sa/account-%.0f}' -s ', ' 10000)
    policies "{name: many, namespace: default, scope: Namespace, action: Allow, rules: [[[{principals: [$many]}]]]}" \
        "{name: nobody, namespace: default, scope: WorkloadSelector, action: Deny, rules: [[[]]]}"
    daemon_up
    ctl dump maps kmesh_policy -o json | jq -e '(.policies | map(.name)) == ["many", "nobody"] and
        (.policies[0].rules[0][0][0].principals | length) == 10000'
    ctl dump pods -o json | jq -e '.pods[0].policies == ["default/many"]'
    run -0 ctl dump maps --policy default/nobody
    [[ $output == *"default/nobody"*"WorkloadSelector"* ]]
    run -1 ctl explain --from 10.77.0.12 --to 10.77.0.11:8080
    [[ $output == *"counted as auth_denied"* ]]
}
