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
    finds error "sockops, connect4, connect6: the link is detached: its cgroup is gone"
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
    finds error "it has an entry in map_of_manager, but no directory"
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

@test "verify: a link that somebody detached" {
    installed
    bpftool link detach pinned "$KMESH_BPF_ROOT/links/connect4"
    finds error "links: connect4: the link is detached"
    ctl restore "$UNDER_TEST"
    is_good
}

@test "verify: a program replaced by another" {
    installed
    foreign_program
    "$KMESH_BIN/examples/relink" connect4 "$KMESH_BPF_ROOT/links/connect4" "$W/bpf/foreign"
    finds error 'programs: connect4: its program was replaced by another: "foreign"'
    ctl restore "$UNDER_TEST"
    is_good
}

@test "verify: a program of another build is a warning" {
    installed
    # kmesh_meta's word on connect4, the third hook: the build is in bytes 96 to 103.
    local record
    record=$(element kmesh_meta 0)
    set_element kmesh_meta 0 "${record:0:288}de ad be ef de ad be ef${record:311}"
    finds warning "programs: connect4: it is of another build (efbeaddeefbeadde)"
}

# The key of a workload's address in kmesh_frontend, as hex bytes.
address_key() {
    local IFS=.
    # shellcheck disable=SC2086 # the address' numbers are words
    printf '00 00 00 00 00 00 00 00 00 00 ff ff %02x %02x %02x %02x 00 00 01 00' $1
}

lose_address() {
    # shellcheck disable=SC2046 # bytes are words
    bpftool map delete pinned "$KMESH_BPF_ROOT/maps/kmesh_frontend" key hex $(address_key "$1")
}

@test "verify: a pod whose policy set is not what its policies ask for" {
    local pin=$KMESH_BPF_ROOT/maps/map_of_manager key word
    left_by_daemon
    jq 'del(.checksum) | .policies = [{name: "one", namespace: "default", scope: "Namespace",
        action: "Deny", rules: [[[{destinationPorts: [9]}]]]}]' "$UNDER_TEST" >"$W/one.json"
    ctl restore "$W/one.json"
    is_good
    key=$(bpftool -j map dump pinned "$pin" | jq -r '.[0].key | map(ltrimstr("0x")) | join(" ")')
    word=$(bpftool -j map dump pinned "$pin" | jq -r '.[0].value | map(ltrimstr("0x")) | join(" ")')
    planted() { # SET: its bytes 3 and 4, in hex
        # shellcheck disable=SC2086 # bytes are words
        bpftool map update pinned "$pin" key hex $key value hex ${word:0:9}$1${word:14}
    }
    planted "00 00"
    finds error "a: its policy set is 0, its policies ask for 1"
    planted "ff ff"
    finds error "a: it lets nobody in: its policies are not in force yet"
    planted "09 00"
    finds error "a: its policy set is 9, which is not in use: it lets nobody in"
    ctl restore "$W/one.json"
    is_good --against "$W/one.json"
}

@test "verify: a workload that nothing leads to" {
    snapshot
    echo '  - {uid: c//Pod/default/c, v4: 10.77.0.13, addresses: [10.77.0.13]}' >>"$UNDER_TEST"
    ctl restore "$UNDER_TEST"
    lose_address 10.77.0.13
    finds error "references: workload c//Pod/default/c"
    finds error "unreferenced: no address, service or pod leads to it"
    ctl restore "$UNDER_TEST"
    is_good --against "$UNDER_TEST"
}

@test "verify: a workload that serves, and that no address leads to" {
    installed
    lose_address 10.77.0.12
    finds error "no address leads to it: as a source it has no identity"
    ctl restore "$UNDER_TEST"
    is_good --against "$UNDER_TEST"
}

@test "verify: a workload without addresses of its own is fine" {
    snapshot
    echo '  - {uid: c//Pod/default/host, v4: 10.77.0.1}' >>"$UNDER_TEST"
    ctl restore "$UNDER_TEST"
    is_good --against "$UNDER_TEST"
}

@test "verify: two workloads dialled at one address" {
    installed
    local at record
    at=$(index_of kmesh_backend '^0a 4d 00 0c')
    record=$(element kmesh_backend "$at")
    set_element kmesh_backend "$at" "0a 4d 00 0b${record:11}"
    finds error "duplicate address: 10.77.0.11 is also that of c//Pod/default/a"
    ctl restore "$UNDER_TEST"
    is_good --against "$UNDER_TEST"
}

@test "verify: two workloads of one name" {
    installed
    # Workload b gets the name of a: its place in bytes 40 to 43; both names have the same length.
    local at record other
    at=$(index_of kmesh_backend '^0a 4d 00 0c')
    record=$(element kmesh_backend "$at")
    other=$(element kmesh_backend "$(index_of kmesh_backend '^0a 4d 00 0b')")
    set_element kmesh_backend "$at" "${record:0:120}${other:120:11}${record:131}"
    finds error "another record has the same uid"
    ctl restore "$UNDER_TEST"
    is_good --against "$UNDER_TEST"
}

@test "verify: a BPF file system that is not the host's" {
    installed
    # In a mount namespace of its own the test's file system stands where the host's would.
    # shellcheck disable=SC2016 # the inner shell expands it
    run -1 unshare --mount --propagation private sh -ec \
        'mount --bind "$1" /sys/fs/bpf; shift; exec "$@"' sh "$W/bpf" \
        "$KMESH_BIN/kmeshctl" --bpf-root /sys/fs/bpf/kmesh verify
    [ ${#lines[@]} -eq 1 ]
    [[ $output == "error: pins: /sys/fs/bpf/kmesh: this BPF file system is not the host's"* ]]
}

@test "verify: a rollback that waits, and a file that a dead process left, are warnings" {
    installed
    in_node "$KMESH_BIN/kmeshctl" restore "$UNDER_TEST" --rollback-after 1h 3>&- 4>&-
    finds warning "waits to be confirmed"
    ctl restore --confirm
    echo '{}' >"$KMESH_STATE_DIR/rollback.json"
    finds warning "files: $KMESH_STATE_DIR/rollback.json: missing field"
    rm "$KMESH_STATE_DIR/rollback.json"
    # Beyond the largest process id.
    echo half >"$KMESH_STATE_DIR/.snapshot.json.4194305"
    finds warning "/.snapshot.json.4194305: a process that is gone left it unfinished"
}

@test "verify --against daemon: what the kernel holds, and what the daemon wants" {
    left_by_daemon
    run -2 ctl verify --against daemon
    [[ $output == *"$KMESH_RUN_DIR/kmeshd.sock"* ]]
    daemon_up
    is_good --against daemon
    local key
    key="00 00 00 00 00 00 00 00 00 00 ff ff 0a 60 00 0a 00 50 00 00"
    # shellcheck disable=SC2086 # bytes are words
    bpftool map delete pinned "$KMESH_BPF_ROOT/maps/kmesh_frontend" key hex $key
    finds error "difference: service default/web.default.svc.cluster.local port 80 (IPv4): vips" \
        --against daemon
    daemon_stop
    daemon_up
    is_good --against daemon
}

@test "verify --against names what differs, and -o json has the same findings" {
    installed
    sed -i 's/10\.96\.0\.12/10.96.0.13/' "$UNDER_TEST"
    run -1 ctl verify --against "$UNDER_TEST"
    [[ $output == *"shop/cart"* ]]
    run -1 ctl verify --against - -o json <"$UNDER_TEST"
    jq -e '.schemaVersion == 1 and (.good | not)' <<<"$output"
    jq -e '.findings | length >= 1 and all(.severity and .layer and .object and .problem and .fix)' \
        <<<"$output"
    run -2 ctl verify --against "$W/none.yaml"
}
