#!/usr/bin/env bats
# shellcheck disable=SC2154 # set by run
bats_require_minimum_version 1.5.0
# kmeshctl dump on the real kernel, with no daemon.
# Each test has a BPF file system and a cgroup of its own.

load lib
load ctl

setup() {
    ctl_begin
}

teardown() {
    world_end
}

@test "dump, purge, restore, dump: the same bytes but for the generation" {
    left_by_daemon
    ctl dump all -o json >"$W/before.json"
    jq -e '.pods | length == 1 and .[0].uid == "c//Pod/default/a"' "$W/before.json"
    ctl purge --yes
    ctl restore "$W/before.json"
    ctl dump all -o json >"$W/after.json"
    diff <(jq 'del(.generation, .checksum)' "$W/before.json") \
        <(jq 'del(.generation, .checksum)' "$W/after.json")
    is_good --against "$W/before.json"
}

@test "tables name services, endpoints, waypoints, limits and counters" {
    installed
    run -0 ctl dump maps
    [[ $output == *"shop/cart "*"443"*"10.96.0.11,10.96.0.12"*"failover"*"default/way:15019"* ]]
    [[ $output == *"c//Pod/default/b:8443"* ]]
    [[ $output == *"Waypoints (1)"* ]]
    [[ $output == *"kmesh_frontend"*"131072"*"--max-frontends"* ]]
    [[ $output != *$'\e'* ]]
    run -0 ctl dump maps --service shop/ -o json
    jq -e '[.services[].name] == ["shop/cart"] and .workloads == []' <<<"$output"
    run -0 ctl dump maps kmesh_backend -o json
    jq -e '(has("services") | not) and (.workloads | length == 2)' <<<"$output"
    run -0 ctl dump maps -o json
    jq -e '.counters.steered == 0 and .layout == 1' <<<"$output"
}

@test "dump programs and links show what runs" {
    installed
    run -0 ctl dump programs -o json
    jq -e '[.programs[] | select(.state == "running").hook] ==
        ["sk_msg", "sockops", "connect4", "connect6"]' <<<"$output"
    run -0 ctl dump links -o json
    jq -e '[.links[] | select(.attached).hook] == ["sockops", "connect4", "connect6"]' <<<"$output"
    run -0 ctl dump programs connect4
    [[ $output == *connect4*running* && $output != *sockops* ]]
}
