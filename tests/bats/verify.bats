#!/usr/bin/env bats
# shellcheck disable=SC2154 # set by run
bats_require_minimum_version 1.5.0
# kmeshctl verify: every finding planted by hand on the real kernel.
# Each test has a BPF file system and a cgroup of its own.

load lib
load ctl

setup() {
    ctl_begin
}

teardown() {
    world_end
}

@test "verify: a map's pin missing, the map still in use" {
    installed
    rm "$KMESH_BPF_ROOT/maps/kmesh_service"
    finds error "kmesh_service: its pin is missing; the programs still use the map"
    ctl restore "$UNDER_TEST"
    is_good --against "$UNDER_TEST"
}

@test "verify: a foreign map in the place of a pin" {
    installed
    rm "$KMESH_BPF_ROOT/maps/kmesh_service"
    bpftool map create "$KMESH_BPF_ROOT/maps/kmesh_service" type hash key 4 value 4 entries 1 \
        name stranger
    finds error 'a foreign map "stranger"'
}

@test "verify: a map of another layout" {
    installed
    rm "$KMESH_BPF_ROOT/maps/kmesh_service"
    bpftool map create "$KMESH_BPF_ROOT/maps/kmesh_service" type array key 4 value 16 entries 8 \
        name kmesh_service
    finds error "kmesh_service: the map is of another layout"
}

@test "verify: the layout version differs" {
    installed
    set_element kmesh_meta 0 "$(element kmesh_meta 0 | sed -E 's/^(([0-9a-f]{2} ){8})../\163/')"
    finds error "layout 99"
}

@test "verify: a link missing" {
    installed
    rm "$KMESH_BPF_ROOT/links/connect4"
    finds error "links: connect4: the link is missing"
    ctl restore "$UNDER_TEST"
    is_good
}

@test "verify: a link in another's place" {
    installed
    mv "$KMESH_BPF_ROOT/links/connect4" "$W/bpf/aside"
    mv "$KMESH_BPF_ROOT/links/connect6" "$KMESH_BPF_ROOT/links/connect4"
    mv "$W/bpf/aside" "$KMESH_BPF_ROOT/links/connect6"
    run -1 ctl verify
    [ ${#lines[@]} -eq 2 ]
    [[ ${lines[0]} == "error: pins: "*"/links/connect4: something foreign is pinned in its place"* ]]
    [[ ${lines[1]} == "error: pins: "*"/links/connect6: something foreign is pinned in its place"* ]]
}

links_have_no_cgroup() {
    ctl dump links -o json | jq -e 'all(.links[]; .cgroupId == 0)'
}

@test "verify: the links' cgroup gone" {
    snapshot
    mkdir "$TOP/short"
    ctl --cgroup "$TOP/short" restore "$UNDER_TEST"
    rmdir "$TOP/short"
    # The kernel lets go of the cgroup a little later.
    eventually 10 links_have_no_cgroup
    finds error "sockops, connect4, connect6: the cgroup of the link is gone"
    ctl restore "$UNDER_TEST"
    is_good
}

@test "verify: the links on another cgroup" {
    installed
    mkdir "$TOP/other"
    KMESH_CGROUP=$TOP/other finds error "sockops, connect4, connect6: it is attached to another cgroup"
}

@test "verify: a program's pin missing while it runs" {
    installed
    rm "$KMESH_BPF_ROOT/progs/connect4"
    finds error "progs/connect4: the program's pin is missing; the program still runs"
    ctl restore "$UNDER_TEST"
    is_good
}

@test "verify: sk_msg not attached" {
    installed
    bpftool prog detach pinned "$KMESH_BPF_ROOT/progs/sk_msg" msg_verdict \
        pinned "$KMESH_BPF_ROOT/maps/map_of_kmesh_socket"
    finds error "sk_msg: it is not attached to map_of_kmesh_socket"
    ctl restore "$UNDER_TEST"
    is_good
}

@test "verify: a foreign connect program before ours is a warning" {
    foreign_program
    bpftool cgroup attach "$CG" connect4 pinned "$W/bpf/foreign" multi
    installed
    finds warning 'connect4: a foreign program "foreign"'
    bpftool cgroup detach "$CG" connect4 pinned "$W/bpf/foreign"
    is_good
}

@test "verify: the generation left odd by a writer that died" {
    installed
    set_element kmesh_meta 0 "$(element kmesh_meta 0 | sed -E 's/^(([0-9a-f]{2} ){16})../\1ff/')"
    finds warning "is odd: a writer is at work, or died at work"
    run -0 ctl dump maps
    [[ $output == *"a writer died at work"* ]]
    ctl restore "$UNDER_TEST"
    is_good
}

@test "verify: a frontend that leads to no service" {
    installed
    # A VIP that leads to an index far beyond the last service, with the tag of its key.
    local key word
    key=$(bpftool -j map dump pinned "$KMESH_BPF_ROOT/maps/kmesh_frontend" |
        jq -r '[.[] | select(.key[12:16] == ["0x0a", "0x60", "0x00", "0x0c"])][0]')
    word=$(jq -r '.value | map(ltrimstr("0x")) | "ff 7f 00 00 " + (.[4:8] | join(" "))' <<<"$key")
    # shellcheck disable=SC2046,SC2086 # bytes are words
    bpftool map update pinned "$KMESH_BPF_ROOT/maps/kmesh_frontend" \
        key hex $(jq -r '.key | map(ltrimstr("0x")) | join(" ")' <<<"$key") value hex $word
    finds error "10.96.0.12"
}

@test "verify: a service that counts more slots than it owns" {
    installed
    # The capacity of the record of shop/cart: bytes 24 to 27; its port, 443, are bytes 22 and 23.
    local at record
    at=$(index_of kmesh_service '^([0-9a-f]{2} ){22}bb 01')
    record=$(element kmesh_service "$at")
    set_element kmesh_service "$at" "${record:0:72}00 00 00 00${record:83}"
    finds error "counts: service shop/cart port 443 (IPv4) (record $at): uses 1 slots, owns 0"
}

@test "verify: a slot that leads to no backend" {
    installed
    # The slot at port 8443: bytes 4 and 5.
    local at slot
    at=$(index_of kmesh_endpoint '^([0-9a-f]{2} ){4}fb 20')
    slot=$(element kmesh_endpoint "$at")
    set_element kmesh_endpoint "$at" "ff 7f 00 00${slot:11}"
    finds error "shop/cart"
    ctl restore "$UNDER_TEST"
    is_good --against "$UNDER_TEST"
}

@test "verify: a name that cannot be read" {
    installed
    # shop/cart in the names.
    set_element kmesh_names "$(index_of kmesh_names '^73 68 6f 70 2f')" \
        "ff fe$(printf ' 00%.0s' $(seq 62))"
    finds error "its name cannot be read"
    ctl restore "$UNDER_TEST"
    is_good --against "$UNDER_TEST"
}

@test "verify: an entry without directory, a directory without entry, a namespace gone" {
    left_by_daemon
    rm -r "$KMESH_BPF_ROOT/pods/$COOKIE"
    finds warning "it has an entry in map_of_manager, but no directory"
    ctl restore "$UNDER_TEST"
    is_good
    # shellcheck disable=SC2046 # bytes are words
    bpftool map delete pinned "$KMESH_BPF_ROOT/maps/map_of_manager" key $(le32 "$COOKIE") 0 0 0 0
    finds error "pod c//Pod/default/a: it has a directory, but no entry in map_of_manager"
    ctl restore "$UNDER_TEST"
    is_good
    pod_gone a
    finds warning "pod c//Pod/default/a: its network namespace is gone"
}

@test "verify: a map that is nearly full is a warning that names the option" {
    mkdir -p "$KMESH_BPF_ROOT/maps"
    bpftool map create "$KMESH_BPF_ROOT/maps/kmesh_frontend" type hash key 20 value 8 entries 8 \
        name kmesh_frontend flags 1
    installed
    finds warning "--max-frontends"
}

@test "verify --against names what differs, and -o json has the same findings" {
    installed
    sed -i 's/10\.96\.0\.12/10.96.0.13/' "$UNDER_TEST"
    run -1 ctl verify --against "$UNDER_TEST"
    [[ $output == *"shop/cart"* ]]
    run -1 ctl verify --against - -o json <"$UNDER_TEST"
    jq -e '.findings | length >= 1 and all(.severity and .layer and .object and .problem and .fix)' \
        <<<"$output"
    run -2 ctl verify --against "$W/none.yaml"
}
