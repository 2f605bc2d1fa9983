#!/usr/bin/env bats
# shellcheck disable=SC2154 # set by run
bats_require_minimum_version 1.5.0
# What holds for every verb of kmeshctl: an empty node, a wrong place.
# Each test has a BPF file system and a cgroup of its own.

load lib
load ctl

setup() {
    ctl_begin
}

teardown() {
    world_end
}

@test "verify and dump say that nothing is installed; purge has nothing to do" {
    finds error "nothing is installed here"
    run -2 --separate-stderr ctl dump
    [[ $stderr == *"nothing is installed here"* ]]
    [ -z "$output" ]
    run -0 ctl purge --yes
    [ "$output" = "nothing to do: Kmesh left nothing here" ]
}

@test "a place that is on no BPF file system is named, with the command that helps" {
    for verb in dump verify "restore $W/none"; do
        mkdir -p "$W/plain"
        snapshot
        cp "$UNDER_TEST" "$W/none"
        # shellcheck disable=SC2086 # a verb with its file
        run -2 ctl --bpf-root "$W/plain/kmesh" $verb
        [[ $output == *"is not on a BPF file system"*"mount -t bpf"* ]]
    done
}
