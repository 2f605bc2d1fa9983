#!/usr/bin/env bats
# shellcheck disable=SC2154 # set by run
bats_require_minimum_version 1.5.0
# kmeshctl restore on the real kernel, with no daemon.
# Each test has a BPF file system and a cgroup of its own.

load lib
load ctl

setup() {
    ctl_begin
}

teardown() {
    world_end
}

@test "restore installs on an empty place, and what is dumped is what was restored" {
    installed
    is_good --against "$UNDER_TEST"
    ctl dump all -o json >"$W/one.json"
    ctl dump all -o json >"$W/two.json"
    cmp "$W/one.json" "$W/two.json"
    jq -e '.services | length == 4' "$W/one.json"
    jq -e '.workloads | length == 2' "$W/one.json"
    jq -e '.settings.exemptPorts == [25, 3306]' "$W/one.json"
}

@test "restoring what is there already writes nothing, and YAML is as good as JSON" {
    installed
    ctl dump all -o json >"$W/before.json"
    ctl dump all -o yaml >"$W/before.yaml"
    run -0 ctl restore "$W/before.yaml"
    [[ ${lines[0]} == *" 0 elements written" ]]
    ctl dump all -o json | cmp - "$W/before.json"
}

@test "restore --dry-run says by name what would come, change and go, and changes nothing" {
    snapshot
    run -0 ctl restore --dry-run "$UNDER_TEST"
    [[ $output == *"add service default/web port 80 (IPv4)"*"add workload c//Pod/default/a"* ]]
    [[ $output == *"services +4 ~0 -0, workloads +2 ~0 -0, endpoints +5 -0, policies kept, pods +0"* ]]
    [ ! -e "$KMESH_BPF_ROOT" ]
    ctl restore "$UNDER_TEST"
    ctl dump all -o json >"$W/before.json"
    run -0 ctl restore --dry-run "$UNDER_TEST"
    [ "$output" = "nothing would change" ]
    sed -i -e 's/10\.96\.0\.12/10.96.0.13/' -e 's/default\/way/default\/gate/' \
        -e 's/exemptPorts: .*\]/exemptPorts: [22]/' "$UNDER_TEST"
    run -0 ctl restore --dry-run "$UNDER_TEST"
    [[ $output == *"add waypoint default/gate port 15019 (IPv4)"* ]]
    [[ $output == *"change service shop/cart port 443 (IPv4): vips"*10.96.0.13* ]]
    [[ $output == *"remove waypoint default/way port 15019 (IPv4)"* ]]
    [[ $output == *"change settings: exempt ports is [25, 3306], wanted [22]"* ]]
    ctl restore --dry-run -o json "$UNDER_TEST" >"$W/preview.json"
    jq -e '.services.changed[0].object == "service shop/cart port 443 (IPv4)" and
        .elements > 0 and .pods.added == []' "$W/preview.json"
    ctl dump all -o json | cmp - "$W/before.json"
}

@test "restore --only leaves the rest as it is" {
    installed
    sed -e 's/10\.96\.0\.12/10.96.0.13/' -e 's/exemptPorts: .*\]/exemptPorts: [22]/' \
        -i "$UNDER_TEST"
    ctl restore --only settings "$UNDER_TEST"
    ctl dump all -o json | jq -e '.settings.exemptPorts == [22] and
        ([.services[].vips[]?] | index("10.96.0.12"))'
    ctl restore --only services "$UNDER_TEST"
    ctl dump all -o json | jq -e '[.services[].vips[]?] | index("10.96.0.13")'
}

@test "restore --only takes one service or workload, by name" {
    installed
    sed -i -e 's/10\.96\.0\.12/10.96.0.13/' -e 's/10\.96\.0\.10/10.96.0.20/' "$UNDER_TEST"
    ctl restore --only service=shop/cart "$UNDER_TEST"
    ctl dump all -o json | jq -e '[.services[].vips[]?] | index("10.96.0.13") and
        index("10.96.0.10") and (index("10.96.0.20") | not)'
    run -2 ctl restore --only service=shop/none "$UNDER_TEST"
    [[ $output == *"service shop/none is neither in the snapshot nor in the tables"* ]]
    run -2 ctl restore --only workload=nobody,settings "$UNDER_TEST"
    [[ $output == *"workload nobody is neither"* ]]
    run -2 ctl restore --only everything "$UNDER_TEST"
    [[ $output == *"service=NAME"* ]]
    # A service that the snapshot does not have goes, and only that one.
    yaml_without shop/cart >"$W/less.yaml"
    ctl restore --only service=shop/cart "$W/less.yaml"
    ctl dump all -o json | jq -e '[.services[].name] == ["default/way", "default/web", "default/web"]'
    is_good
}

# The snapshot without the last service, which is this one.
yaml_without() {
    sed "\|name: $1|,/workload: c/d" "$UNDER_TEST"
}

@test "a snapshot of another node is refused without a word" {
    installed
    ctl dump all -o json >"$W/here.json"
    jq '.node = "elsewhere" | del(.checksum) | .services[1].vips = ["10.96.9.9"]' "$W/here.json" \
        >"$W/there.json"
    run -2 ctl restore "$W/there.json"
    [[ $output == *"of node elsewhere, this is node1"*--any-node* ]]
    ctl dump all -o json | cmp - "$W/here.json"
    ctl restore --any-node "$W/there.json"
    ctl dump all -o json | jq -e '[.services[].vips[]?] | index("10.96.9.9")'
}

@test "a damaged, newer, unknown or contradictory snapshot is refused before the first write" {
    installed
    ctl dump all -o json >"$W/good.json"
    sed 's/10\.96\.0\.10/10.96.0.99/' "$W/good.json" >"$W/flipped.json"
    head -c 300 "$W/good.json" >"$W/truncated.json"
    jq '.schemaVersion = 99 | del(.checksum)' "$W/good.json" >"$W/newer.json"
    jq '.surprise = 1 | del(.checksum)' "$W/good.json" >"$W/unknown.json"
    jq '.workloads += [.workloads[0]] | del(.checksum)' "$W/good.json" >"$W/twice.json"
    jq '.services[0].endpoints[0].workload = "nobody" | del(.checksum)' "$W/good.json" \
        >"$W/nobody.json"
    : >"$W/empty.json"
    for name in flipped truncated newer unknown twice nobody empty; do
        run -2 --separate-stderr ctl restore "$W/$name.json"
        [ -n "$stderr" ] && [ -z "$output" ]
        run -2 ctl restore "$W/none.json"
    done
    run -2 ctl restore "$W/flipped.json"
    [[ $output == *checksum* ]]
    run -2 ctl restore "$W/newer.json"
    [[ $output == *"newer"* ]]
    ctl dump all -o json | cmp - "$W/good.json"
}

# ---- policies ----

# The snapshot in UNDER_TEST with these policies (JSON) instead.
with_policies() {
    jq --argjson policies "$1" '.policies = $policies | del(.checksum)' "$UNDER_TEST"
}

# policy NAME ACTION RULES: as JSON, of namespace default
policy() {
    jq -nc --arg name "$1" --arg action "$2" --argjson rules "$3" \
        '{name: $name, namespace: "default", scope: "Namespace", action: $action, rules: $rules}'
}

# gets POD TEXT [PORT]: what the pod's connections to pod a come to
gets() {
    says "$2" names "$1" "10.77.0.11:${3-8080}" 1
}

@test "a snapshot with policies: restored, they decide, here and on an empty place" {
    left_by_daemon
    pod client 10.77.0.2
    pod other 10.77.0.3
    serve a served 8080 8081
    gets client served
    with_policies "[$(policy no-client Deny '[[[{"sourceIps": ["10.77.0.2/32"]}]]]')]" >"$W/closed.json"
    run -0 ctl restore --dry-run "$W/closed.json"
    [[ $output == *"add policy default/no-client"*"policies +1 ~0 -0"* ]]
    gets client served
    run -0 ctl restore "$W/closed.json"
    gets client refused
    gets other served
    is_good --against "$W/closed.json"
    ctl dump all -o json >"$W/dumped.json"
    ctl purge --yes
    gets client served
    ctl restore "$W/dumped.json"
    gets client refused
    gets other served
    is_good --against "$W/dumped.json"
}

@test "restore --only policies and policy=NAME take nothing else" {
    left_by_daemon
    pod client 10.77.0.2
    serve a served 8080 8081
    with_policies "[$(policy one Deny '[[[{"destinationPorts": [8080]}]]]'),
        $(policy two Deny '[[[{"destinationPorts": [8081]}]]]')]" |
        jq '.services |= map(select(.family == "ipv6")) | .settings.exemptPorts = [22]' >"$W/closed.json"
    ctl restore --only policy=default/two "$W/closed.json"
    gets client served
    gets client refused 8081
    ctl restore --only policies "$W/closed.json"
    gets client refused
    gets client refused 8081
    ctl dump all -o json | jq -e '(.policies | map(.name)) == ["one", "two"] and .settings.exemptPorts == []
        and (.services | length == 2)'
    ctl restore --only policies "$UNDER_TEST"
    gets client served
    gets client served 8081
    run -2 ctl restore --only policy=default/none "$W/closed.json"
    [[ $output == *"policy default/none is neither in the snapshot nor in the tables"* ]]
    is_good --against "$UNDER_TEST"
}

# ---- pods ----

@test "pods whose namespace is gone, or of another boot, are left out and listed" {
    left_by_daemon
    ctl purge --yes
    pod_gone a
    run -0 ctl restore "$UNDER_TEST"
    [[ $output == *"c//Pod/default/a"*"left out: its network namespace is gone"* ]]
    jq '.bootId = "another" | del(.checksum)' "$UNDER_TEST" >"$W/other.json"
    run -0 ctl restore "$W/other.json"
    [[ $output == *"c//Pod/default/a"*"left out: it was saved under another boot"* ]]
    ctl dump pods -o json | jq -e '.pods == []'
}

# ---- the lock ----

@test "restore and purge refuse beside a writer, name its pid, and purge can end it" {
    installed
    bg writer node_exec flock --close "$KMESH_BPF_ROOT" sleep 60
    eventually 5 flock_is_held
    pid=$(bg_pid writer)
    run -2 ctl restore "$UNDER_TEST"
    [[ $output == *"(pid $pid)"*"kill -TERM $pid"* ]]
    run -2 ctl purge --yes
    [[ $output == *"(pid $pid)"*"--stop-daemon"* ]]
    is_good
    run -0 ctl dump
    run -0 ctl purge --yes --stop-daemon
    [[ $output == *"nothing is left"* ]]
}

flock_is_held() {
    ! flock -n "$KMESH_BPF_ROOT" true
}
