#!/usr/bin/env bats
# The one rule of shared memory: endpoints, VIPs, services and addresses change as fast as they can
# be written, while several clients connect. No connection lands anywhere but in the old or the new
# set.

load lib
load town

setup() {
    world_begin
}

teardown() {
    world_end
}

@test "changes as fast as they can be written: every connection lands in the old or the new set" {
    local number
    pod client 10.77.0.2 fd77::2
    pod pool 10.77.1.100 fd77::1:100
    for number in $(seq 24); do
        in_pod pool ip addr add "10.77.1.$number/16" dev eth0
        in_pod pool ip addr add "fd77::1:$(printf %x "$number")/64" dev eth0 nodad
    done
    serve pool pool 8080
    leak 80
    mesh_begin
    enrolled client
    mesh_end
    daemon_up
    daemon_stop TERM
    run in_pod client "$KMESH_BIN/kmesh-torture" --seconds "${KMESH_TORTURE_SECONDS:-12}" --seed "$RANDOM"
    echo "# $output" >&3
    [ "$status" -eq 0 ]
    jq -e '.changes > 100 and .steered > 1000 and .elsewhere == 0' <<<"$output"
    ctl verify
}
