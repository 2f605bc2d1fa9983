#!/usr/bin/env bats
# shellcheck disable=SC2154 # set by run
bats_require_minimum_version 1.5.0
# kmeshctl purge: everything of ours goes, nothing of others.
# Each test has a BPF file system and a cgroup of its own.

load lib
load ctl

setup() {
    ctl_begin
}

teardown() {
    world_end
}

# ---- purge ----

@test "purge leaves nothing, and the second time has nothing to do" {
    left_by_daemon
    mkdir -p "$KMESH_STATE_DIR" "$KMESH_RUN_DIR"
    touch "$KMESH_STATE_DIR/snapshot.json" "$KMESH_STATE_DIR/.snapshot.json.123" \
        "$KMESH_RUN_DIR/kmeshd.json"
    local ids
    ids=$(kernel_ids)
    [ "$(wc -l <<<"$ids")" -ge 15 ]
    run -0 ctl purge --dry-run
    [[ $output == *"detach connect4"*"remove $KMESH_STATE_DIR/snapshot.json"* ]]
    is_good
    run -0 ctl purge --yes
    [[ $output == *"nothing is left"* ]]
    nothing_left "$ids"
    [ ! -e "$KMESH_BPF_ROOT" ] && [ ! -e "$KMESH_STATE_DIR" ] && [ ! -e "$KMESH_RUN_DIR" ]
    run -0 ctl purge --yes
    [ "$output" = "nothing to do: Kmesh left nothing here" ]
}

@test "purge asks, and off a terminal refuses without --yes" {
    installed
    run -2 --separate-stderr ctl purge </dev/null
    [[ $stderr == *"--yes"* ]]
    is_good
    run script -qec "$KMESH_BIN/kmeshctl purge" /dev/null < <(sleep 0.5; echo n)
    [[ $output == *"[y/N]"*"nothing was removed"* ]]
    is_good
}

@test "purge harms no foreign program, map or pin" {
    foreign_program
    bpftool cgroup attach "$CG" connect4 pinned "$W/bpf/foreign" multi
    installed
    bpftool map create "$W/bpf/kmesh_service" type array key 4 value 32 entries 4 name kmesh_service
    bpftool map create "$W/bpf/stranger" type hash key 4 value 4 entries 4 name stranger
    run -0 ctl purge --yes
    bpftool map show pinned "$W/bpf/kmesh_service"
    bpftool map show pinned "$W/bpf/stranger"
    bpftool -j cgroup show "$CG" | jq -e 'length == 1 and .[0].name == "foreign"'
    bpftool cgroup detach "$CG" connect4 pinned "$W/bpf/foreign"
}

@test "purge leaves a foreign pin among ours alone, and says so with exit 1" {
    installed
    bpftool map create "$KMESH_BPF_ROOT/maps/stranger" type hash key 4 value 4 entries 4 name stranger
    run -1 ctl purge --yes
    [[ $output == *"not Kmesh's, left alone: $KMESH_BPF_ROOT/maps/stranger"* ]]
    [[ $output == *"left: $KMESH_BPF_ROOT/maps/stranger"* ]]
    bpftool map show pinned "$KMESH_BPF_ROOT/maps/stranger"
    [ "$(find "$KMESH_BPF_ROOT" -type f)" = "$KMESH_BPF_ROOT/maps/stranger" ]
}

@test "purge takes a foreign pin out of the place of ours" {
    installed
    rm "$KMESH_BPF_ROOT/maps/kmesh_service"
    bpftool map create "$KMESH_BPF_ROOT/maps/kmesh_service" type hash key 4 value 4 entries 1 \
        name stranger
    run -0 ctl purge --yes
    [[ $output == *"not Kmesh's, in the place of its pin"*"nothing is left"* ]]
}

@test "purge finds what lost its pins through the links at the cgroup" {
    installed
    # Another pin keeps the link; everything of ours is deleted by hand.
    mv "$KMESH_BPF_ROOT/links/connect4" "$W/bpf/elsewhere"
    rm -r "$KMESH_BPF_ROOT"
    run -1 ctl purge --yes
    [[ $output == *"detach connect4 (link "* ]]
    [[ $output == *"left: link "*"it is pinned elsewhere"* ]]
    bpftool -j cgroup show "$CG" | jq -e 'length == 0'
    rm "$W/bpf/elsewhere"
    run -0 ctl purge --yes
}

@test "purge names the process that still holds a map" {
    installed
    # bpftool keeps the map open while its output is not read.
    mkfifo "$W/fifo"
    bg reader node_exec sh -c "exec bpftool map dump pinned '$KMESH_BPF_ROOT/maps/kmesh_names' >'$W/fifo'"
    exec 9<"$W/fifo"
    eventually 5 grep -qs map_id "/proc/$(bg_pid reader)/fdinfo/3"
    run -1 ctl purge --yes
    [[ $output == *"left: map kmesh_names (id "*"held open by bpftool (pid $(bg_pid reader))"* ]]
    exec 9<&-
    eventually 5 reader_is_gone
    run -0 ctl purge --yes
}

reader_is_gone() {
    ! bg_alive reader
}

@test "purge killed at any instant is finished by the next" {
    for tenths in 1 2 3 4 5 6 7 8; do
        installed
        timeout -s KILL "0.00$tenths" "$KMESH_BIN/kmeshctl" purge --yes >"$W/log/killed" 2>&1 || true
        run -0 ctl purge --yes
        [ ! -e "$KMESH_BPF_ROOT" ]
    done
}
