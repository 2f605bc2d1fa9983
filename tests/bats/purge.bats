#!/usr/bin/env bats
# shellcheck disable=SC2154,SC2030,SC2031 # set by run; each test has its own environment
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
    touch "$KMESH_STATE_DIR"/{snapshot.json,.snapshot.json.123,rollback.json} \
        "$KMESH_RUN_DIR"/{kmeshd.json,last-sync.json,last-snapshot.json,kmeshd.sock}
    local ids
    ids=$(kernel_ids)
    [ "$(wc -l <<<"$ids")" -ge 15 ]
    run -1 ctl purge --dry-run
    [[ $output == *"detach connect4"*"remove $KMESH_STATE_DIR/snapshot.json"* ]]
    # Nothing was touched: of the files that wait or were left unfinished verify only warns.
    run -0 ctl verify
    [[ $output == *"rollback.json"* && $output != *error* ]]
    run -0 ctl purge --yes
    [[ $output == *"nothing is left"* ]]
    nothing_left "$ids"
    [ ! -e "$KMESH_BPF_ROOT" ] && [ ! -e "$KMESH_STATE_DIR" ] && [ ! -e "$KMESH_RUN_DIR" ]
    run -0 ctl purge --yes
    [ "$output" = "nothing to do: Kmesh left nothing here" ]
    run -0 ctl purge --dry-run
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
    [[ $output == *"left: link "*"pinned at $W/bpf/elsewhere; remove that, and it goes"* ]]
    bpftool -j cgroup show "$CG" | jq -e 'length == 0'
    rm "$W/bpf/elsewhere"
    run -0 ctl purge --yes
}

# hold NAME PIN…: a process that keeps open what is pinned there.
hold() {
    local name=$1
    shift
    # shellcheck disable=SC2086 # words
    bg "$name" node_exec ${HOLD_IN-} perl -e "$HOLD" "$W/ready/$name" "$@"
    eventually 5 test -e "$W/ready/$name"
}

# BPF_OBJ_GET of each pin, then a long sleep.
# shellcheck disable=SC2016 # perl
HOLD='my $ready = shift; my @fds;
for (@ARGV) { my $attr = pack("PLL", $_, 0, 0); my $fd = syscall(321, 7, $attr, 16); die "$_: $!" if $fd < 0 }
open(my $done, ">", $ready) or die $!; close $done; sleep 600'

# link_netns PROGRAM POD PIN: the pinned sk_lookup program, linked to the pod's network namespace;
# BPF_OBJ_GET, BPF_LINK_CREATE, BPF_OBJ_PIN.
link_netns() {
    perl -e 'my ($prog, $netns, $pin) = @ARGV;
        my $fd = syscall(321, 7, pack("PLL", $prog, 0, 0), 16); die "$prog: $!" if $fd < 0;
        open(my $target, "<", $netns) or die $!;
        my $link = syscall(321, 28, pack("LLLL", $fd, fileno($target), 36, 0), 16); die "link: $!" if $link < 0;
        syscall(321, 6, pack("PLL", $pin, $link, 0), 16) == 0 or die "$pin: $!"' "$1" "$W/netns/$2" "$3"
}

# own_program SECTION TYPE PIN: a program of that type that keeps our kmesh_meta, as ours all do.
own_program() {
    cat >"$W/own.c" <<END
struct { int (*type)[2]; int (*max_entries)[1]; unsigned *key; char (*value)[192]; }
    kmesh_meta __attribute__((section(".maps"), used));
static void *(*const lookup)(void *, const void *) = (void *)1;
__attribute__((section("$1"), used)) int own(void *ctx)
{
    unsigned key = 0;
    return lookup(&kmesh_meta, &key) ? ${4-1} : 0;
}
__attribute__((section("license"), used)) char _license[] = "GPL";
END
    clang-19 -O2 -g -target bpf -c "$W/own.c" -o "$W/own.o"
    bpftool prog load "$W/own.o" "$3" type "$2" map name kmesh_meta pinned "$KMESH_BPF_ROOT/maps/kmesh_meta"
}

@test "a link to a network namespace whose program is ours goes, pinned or not" {
    local ids
    left_by_daemon
    own_program sk_lookup sk_lookup "$W/bpf/own"
    link_netns "$W/bpf/own" a "$KMESH_BPF_ROOT/pods/$COOKIE/second"
    ids=$(kernel_ids)
    grep -q "link $(bpftool -j link show pinned "$KMESH_BPF_ROOT/pods/$COOKIE/second" | jq .id)" <<<"$ids"
    rm "$W/bpf/own"
    run -0 ctl purge --yes
    nothing_left "$ids"
    # again, its pin elsewhere: detached, and what keeps it is named
    installed
    own_program sk_lookup sk_lookup "$W/bpf/own"
    link_netns "$W/bpf/own" a "$W/bpf/strange"
    run -1 ctl purge --yes
    [[ $output == *"detach sk_lookup in netns inode "*"left: link "*"pinned at $W/bpf/strange; remove that, and it goes"* ]]
    [[ $output == *"left: program own "*"pinned at $W/bpf/own"* ]]
    rm "$W/bpf/own" "$W/bpf/strange"
    run -0 ctl purge --yes
}

@test "a program attached to the cgroup without a link goes" {
    installed
    bpftool link detach pinned "$KMESH_BPF_ROOT/links/connect4"
    bpftool cgroup attach "$CG" connect4 pinned "$KMESH_BPF_ROOT/progs/connect4" multi
    run -0 ctl purge --yes
    [[ $output == *"detach connect4 (program "*", without a link) from $CG"*"nothing is left"* ]]
    bpftool -j cgroup show "$CG" | jq -e 'length == 0'
}

@test "unmounted at its place, mounted at another: found there and removed" {
    local ids
    left_by_daemon
    ids=$(kernel_ids)
    mkdir "$W/second"
    mount --bind "$W/bpf" "$W/second"
    umount -l "$W/bpf"
    run -1 ctl purge --dry-run
    [[ $output == *"detach connect4"*"unpin $W/second/kmesh/maps/kmesh_meta"* ]]
    run -0 ctl purge --yes
    nothing_left "$ids"
    [ ! -e "$W/second/kmesh" ]
    umount "$W/second"
    mount -t bpf none "$W/bpf"
    run -0 ctl purge --yes
    [ "$output" = "nothing to do: Kmesh left nothing here" ]
}

@test "unmounted at its place, mounted in another mount namespace only: found there and removed" {
    local ids
    left_by_daemon
    ids=$(kernel_ids)
    bg sleeper node_exec unshare --mount --propagation private sleep 600
    # Its namespace is apart once it is sleep: before, it sees the same mounts because it is in ours.
    eventually 5 grep -qx sleep "/proc/$(bg_pid sleeper)/comm"
    umount "$W/bpf"
    run -0 ctl purge --yes
    [[ $output == *"unpin /proc/$(bg_pid sleeper)/root$W/bpf/kmesh/maps/kmesh_meta"* ]]
    nothing_left "$ids"
    mount -t bpf none "$W/bpf"
}

@test "unmounted altogether, kept by a process: detached, and the process is named" {
    local ids
    left_by_daemon
    ids=$(kernel_ids)
    hold keeper "$KMESH_BPF_ROOT"/links/*
    umount -l "$W/bpf"
    # still in force without any pin
    bpftool -j cgroup show "$CG" | jq -e 'map(.name) | contains(["connect4", "connect6", "sockops"])'
    run -1 ctl purge --yes
    [[ $output == *"detach connect4 (link "*"left: link "*"held open by perl (pid $(bg_pid keeper)); end it, and it goes"* ]]
    bpftool -j cgroup show "$CG" | jq -e 'length == 0'
    run -1 ctl purge --dry-run
    stop_bg keeper KILL
    nothing_left "$ids"
    run -0 ctl purge --yes
    [ "$output" = "nothing to do: Kmesh left nothing here" ]
    mount -t bpf none "$W/bpf"
}

@test "another BPF file system in the place of the old one: the old one's objects are found" {
    left_by_daemon
    hold keeper "$KMESH_BPF_ROOT"/links/connect4
    umount -l "$W/bpf"
    mount -t bpf none "$W/bpf"
    installed
    run -1 ctl purge --yes
    # both of them: the old one's link, the new one's
    [ "$(grep -c '^detach connect4 (link ' <<<"$output")" -eq 2 ]
    stop_bg keeper KILL
    eventually 5 ctl purge --yes
}

@test "a process in namespaces of its own is named by its pid out here" {
    local inner
    installed
    HOLD_IN="unshare --mount --pid --fork --kill-child" hold keeper "$KMESH_BPF_ROOT/maps/kmesh_names"
    inner=$(pgrep -P "$(bg_pid keeper)")
    run -1 ctl purge --yes
    [[ $output == *"left: map kmesh_names (id "*"held open by perl (pid $inner); end it, and it goes"* ]]
    stop_bg keeper KILL
    eventually 5 ctl purge --yes
}

@test "another Kmesh on the same cgroup, beside ours and in ours' file system, is not touched" {
    local before
    installed
    export KMESH_BPF_ROOT=$W/bpf/other KMESH_STATE_DIR=$W/state/other KMESH_RUN_DIR=$W/run/other
    installed
    before=$(find "$W/bpf/other"; CG=/nowhere kernel_ids | sort -u)
    KMESH_BPF_ROOT=$W/bpf/kmesh KMESH_STATE_DIR=$W/state/kmesh run -0 ctl purge --yes
    [ ! -e "$W/bpf/kmesh" ]
    [ "$(bpftool -j cgroup show "$CG" | jq -r 'map(.name) | sort | join(" ")')" = "connect4 connect6 sockops" ]
    [ "$(find "$W/bpf/other"; CG=/nowhere kernel_ids | sort -u)" = "$before" ]
    # pins deleted by hand, the links kept: the other's purge finds its own, ours finds nothing
    mv "$W/bpf/other/links" "$W/bpf/links"
    rm -r "$W/bpf/other"
    KMESH_BPF_ROOT=$W/bpf/kmesh run -0 ctl purge --yes
    [ "$output" = "nothing to do: Kmesh left nothing here" ]
    run -1 ctl purge --yes
    [[ $output == *"detach connect4"*"pinned at $W/bpf/links/connect4"* ]]
    rm -r "$W/bpf/links"
    run -0 ctl purge --yes
}

@test "a foreign map of our name and another layout is not ours, beside ours, among ours or held" {
    installed
    bpftool map create "$W/bpf/kmesh_service" type hash key 8 value 8 entries 4 name kmesh_service
    bpftool map create "$KMESH_BPF_ROOT/strange" type hash key 8 value 8 entries 4 name kmesh_service
    bpftool map create "$W/bpf/held" type hash key 8 value 8 entries 4 name kmesh_backend
    hold keeper "$W/bpf/held"
    rm "$W/bpf/held"
    run -1 ctl purge --yes
    [[ $output == *"not Kmesh's, left alone: $KMESH_BPF_ROOT/strange (map "* ]]
    [[ $output != *"kmesh_backend"*keeper* && $output != *perl* ]]
    bpftool map show pinned "$W/bpf/kmesh_service"
    bpftool map show pinned "$KMESH_BPF_ROOT/strange"
    rm "$KMESH_BPF_ROOT/strange"
    run -0 ctl purge --yes
    run -0 ctl purge --yes
    [ "$output" = "nothing to do: Kmesh left nothing here" ]
}

@test "a program of ours on a network interface is found by purge, and what is to be done said" {
    installed
    pod a 10.77.0.11
    own_program xdp xdp "$W/bpf/own" 2
    in_pod a bpftool net attach xdp pinned "$W/bpf/own" dev eth0
    rm "$W/bpf/own"
    run -1 ctl purge --yes
    [[ $output == *"left: program own (id "* ]]
    in_pod a bpftool net detach xdp dev eth0
    eventually 5 ctl purge --yes
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

@test "purge refuses while a restore waits to be confirmed and is guarded" {
    local what
    installed
    mkdir -p "$KMESH_STATE_DIR"
    echo '{}' >"$KMESH_STATE_DIR/rollback.json"
    bg guard node_exec flock --no-fork "$KMESH_BPF_ROOT" sleep 60
    eventually 5 held
    for what in --yes --stop-daemon; do
        run -2 ctl purge "$what"
        [[ $output == *"a restore waits to be confirmed ($KMESH_STATE_DIR/rollback.json), and sleep 60 (pid $(bg_pid guard))"*"restore --confirm"* ]]
    done
    bg_alive guard
    [ "$(bpftool -j cgroup show "$CG" | jq length)" -eq 3 ]
    stop_bg guard KILL
    run -0 ctl purge --yes
    [ ! -e "$KMESH_STATE_DIR" ]
}

held() {
    ! flock --nonblock "$KMESH_BPF_ROOT" true
}

@test "purge killed at any instant is finished by the next" {
    for tenths in 1 2 3 4 5 6 7 8; do
        installed
        timeout -s KILL "0.00$tenths" "$KMESH_BIN/kmeshctl" purge --yes >"$W/log/killed" 2>&1 || true
        run -0 ctl purge --yes
        [ ! -e "$KMESH_BPF_ROOT" ]
    done
}
