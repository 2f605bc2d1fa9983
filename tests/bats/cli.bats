#!/usr/bin/env bats
# shellcheck disable=SC2154,SC2030,SC2031 # set by run; each test has its own environment
bats_require_minimum_version 1.5.0
# What holds for every verb of kmeshctl: an empty node, a machine that is not as it must be, a
# wrong place, words, colours, pipes. Each test has a BPF file system and a cgroup of its own.

load lib
load ctl

setup() {
    ctl_begin
}

teardown() {
    world_end
}

# Every verb that asks the kernel, with what it needs; restore and purge come last.
kernel_verbs() {
    cat <<END
dump
dump all -o json
dump programs
verify
verify -o json
status
status -o json
explain --from 1 --to 10.96.0.10:80
explain --from 1 --to 10.96.0.10:80 -o json
restore --dry-run $UNDER_TEST
purge --dry-run
restore $UNDER_TEST
purge --yes
END
}

# each_verb COMMAND…: the command, with kmeshctl and each of the verbs behind it
each_verb() {
    local verb
    while read -r verb; do
        # shellcheck disable=SC2086 # words
        "$@" "$KMESH_BIN/kmeshctl" $verb || { echo "kmeshctl $verb"; return 1; }
    done < <(kernel_verbs)
}

# fails_with TEXT COMMAND…: exit status 2, the text on standard error, nothing on standard output
fails_with() {
    local text=$1 status=0
    shift
    "$@" >"$W/out" 2>"$W/err" </dev/null || status=$?
    if [ "$status" -ne 2 ] || [[ $(<"$W/err") != "kmeshctl: "*"$text"* ]] || [ -s "$W/out" ]; then
        fail "expected '$text' and 2 from $*, got $status: $(cat "$W/out" "$W/err")"
    fi
}

# The binary where any user can run it.
for_all() {
    chmod 755 "$W"
    mkdir "$W/bin"
    cp "$KMESH_BIN/kmeshctl" "$W/bin"
    KMESH_BIN=$W/bin
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
    for verb in dump verify explain "restore $W/none"; do
        mkdir -p "$W/plain"
        snapshot
        cp "$UNDER_TEST" "$W/none"
        [ "$verb" != explain ] || verb="explain --from 1 --to 10.96.0.10:80"
        # shellcheck disable=SC2086 # a verb with its file
        run -2 ctl --bpf-root "$W/plain/kmesh" $verb
        [[ $output == *"is not on a BPF file system"*"mount -t bpf"* ]]
    done
}

@test "no BPF file system at the usual place: the command that mounts one" {
    local inside='mount -t tmpfs none /sys/fs/bpf; exec "$@"'
    for verb in dump verify status; do
        run -2 env -u KMESH_BPF_ROOT unshare --mount sh -ec "$inside" sh "$KMESH_BIN/kmeshctl" "$verb"
        [[ $output == *"/sys/fs/bpf/kmesh is not on a BPF file system"*"mount -t bpf bpf /sys/fs/bpf"* ]]
    done
}

@test "another user is told to be root, and which capabilities are missing" {
    snapshot
    for_all
    each_verb fails_with "must run as root: it lacks CAP_BPF, CAP_NET_ADMIN, CAP_SYS_ADMIN, without" \
        setpriv --reuid 65534 --regid 65534 --clear-groups
    each_verb fails_with "it lacks CAP_BPF, without which" setpriv --bounding-set -bpf --inh-caps -bpf
    each_verb fails_with "root of this user namespace may ask the kernel nothing" unshare --user --map-root-user
    # what asks the kernel nothing works
    setpriv --reuid 65534 --clear-groups "$KMESH_BIN/kmeshctl" completions bash | grep -q kmeshctl
    setpriv --reuid 65534 --clear-groups "$KMESH_BIN/kmeshctl" purge --help | grep -q Examples
}

@test "a kernel that is too old is refused before anything is touched" {
    snapshot
    each_verb fails_with "Kmesh needs Linux 6.1 or newer, this is 2.6." setarch --uname-2.6
    [ ! -e "$KMESH_BPF_ROOT" ]
    setarch --uname-2.6 "$KMESH_BIN/kmeshctl" completions bash | grep -q kmeshctl
}

@test "a kernel without BTF: nothing is made, and views work" {
    local inside='mount -t tmpfs none /sys/kernel/btf; exec "$@"'
    snapshot
    fails_with "this kernel has no BTF (/sys/kernel/btf/vmlinux)" \
        unshare --mount sh -ec "$inside" sh "$KMESH_BIN/kmeshctl" restore "$UNDER_TEST"
    [ ! -e "$KMESH_BPF_ROOT" ]
    installed
    unshare --mount sh -ec "$inside" sh "$KMESH_BIN/kmeshctl" verify
    unshare --mount sh -ec "$inside" sh "$KMESH_BIN/kmeshctl" purge --yes
    [ ! -e "$KMESH_BPF_ROOT" ]
}

@test "no cgroup2, or a directory that is none" {
    # shellcheck disable=SC2016 # for the inner shell
    local inside='awk '\''/ - cgroup2 / { print $5 }'\'' /proc/self/mountinfo | xargs umount -l; exec "$@"'
    installed
    for verb in verify status "explain --from 1 --to 10.96.0.10:80" "restore $UNDER_TEST" "purge --yes"; do
        # shellcheck disable=SC2086 # words
        fails_with "$W/state is no cgroup2 directory; name the cgroup2 root" ctl $verb --cgroup "$W/state"
        # shellcheck disable=SC2086 # words
        fails_with "$W/nowhere" ctl $verb --cgroup "$W/nowhere"
    done
    fails_with "no cgroup2 file system is mounted; mount one, or name its place with --cgroup" \
        env -u KMESH_CGROUP unshare --mount sh -ec "$inside" sh "$KMESH_BIN/kmeshctl" verify
    is_good
}

@test "a read-only BPF file system: views work, what writes is refused whole" {
    local before
    installed
    before=$(find "$KMESH_BPF_ROOT"; kernel_ids)
    mount -o remount,bind,ro "$W/bpf"
    is_good
    ctl dump all -o json >"$W/dump"
    fails_with "the BPF file system at $KMESH_BPF_ROOT is mounted read-only" ctl restore "$UNDER_TEST"
    fails_with "the BPF file system at $KMESH_BPF_ROOT is mounted read-only" ctl purge --yes
    mount -o remount,bind,rw "$W/bpf"
    [ "$(find "$KMESH_BPF_ROOT"; kernel_ids)" = "$before" ]
    is_good
}

@test "a misspelt verb, flag or value is answered with what was meant" {
    run -2 --separate-stderr ctl dmup
    [[ $stderr == *"unrecognized subcommand 'dmup'"*"'dump'"* ]]
    run -2 --separate-stderr ctl verify --agianst x
    [[ $stderr == *"unexpected argument '--agianst'"*"'--against'"* ]]
    run -2 --separate-stderr ctl dump -o jsn
    [[ $stderr == *"invalid value 'jsn'"*"json"* ]]
    run -2 --separate-stderr ctl explain --from a --to 10.96.0.10
    [[ $stderr == *"invalid value '10.96.0.10' for '--to <ADDRESS:PORT>'"* ]]
}

@test "colours on a terminal, none by NO_COLOR, --color has the last word" {
    local esc=$'\e['
    installed
    # script(1) is the terminal
    run -0 env -u NO_COLOR script -qec "$KMESH_BIN/kmeshctl verify" /dev/null
    [[ $output == *"$esc"*good* ]]
    run -0 env NO_COLOR=1 script -qec "$KMESH_BIN/kmeshctl verify" /dev/null
    [[ $output == good* && $output != *"$esc"* ]]
    run -0 env -u NO_COLOR script -qec "$KMESH_BIN/kmeshctl verify --color never" /dev/null
    [[ $output == good* && $output != *"$esc"* ]]
    run -0 env NO_COLOR=1 "$KMESH_BIN/kmeshctl" verify --color always
    [[ $output == "$esc"*good* ]]
    for verb in verify "dump all" status "explain --from 1 --to 10.96.0.10:80"; do
        # shellcheck disable=SC2086 # words
        run -0 env -u NO_COLOR "$KMESH_BIN/kmeshctl" $verb
        [[ $output != *"$esc"* ]]
    done
}

# unread COMMAND…: its output goes where nobody reads; it must not fail of that, nor say anything.
unread() {
    perl -e 'pipe(my $from, my $to); close $from; open(STDOUT, ">&", $to); exec @ARGV' "$@" 2>"$W/err" ||
        fail "exit status $?: $(<"$W/err")"
    ! grep -iE 'pipe|panick' "$W/err"
}

# unheard COMMAND…: its talk, too.
unheard() {
    perl -e 'pipe(my $from, my $to); close $from; open(STDOUT, ">&", $to); open(STDERR, ">&", $to);
        exec @ARGV' "$@"
}

@test "a pipe that nobody reads is no error, and keeps no work from being done" {
    installed
    each_verb unread
    # purge was the last one, and did it
    [ ! -e "$KMESH_BPF_ROOT" ]
    unheard "$KMESH_BIN/kmeshctl" restore "$UNDER_TEST" -v
    is_good
    unheard "$KMESH_BIN/kmeshctl" purge --yes -v
    [ ! -e "$KMESH_BPF_ROOT" ]
    for verb in "completions bash" --help "purge --help" --version; do
        # shellcheck disable=SC2086 # words
        unread "$KMESH_BIN/kmeshctl" $verb
    done
}

# says_more COMMAND…: on standard error with -v, and not without
says_more() {
    "$@" -v >"$W/out" 2>"$W/err" || [ $? -eq 1 ]
    grep -q "^kmeshctl: kernel .*; root $KMESH_BPF_ROOT; state " "$W/err" || fail "-v: $(<"$W/err")"
    # what removes everything cannot be done twice
    [[ $* == *"purge --yes" ]] || installed
    "$@" >"$W/out" 2>"$W/err" || [ $? -eq 1 ]
    ! grep "kernel .*; root" "$W/err"
}

@test "-v says more on standard error" {
    installed
    each_verb says_more
}
