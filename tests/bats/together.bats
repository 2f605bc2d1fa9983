#!/usr/bin/env bats
# shellcheck disable=SC2153,SC2154,SC2030,SC2031 # set by run and lib.bash; each test has its own environment
bats_require_minimum_version 1.5.0
# The verbs of kmeshctl beside one another, and ended or refused in the middle, on the real kernel:
# two writers at once, SIGKILL in each verb, maps that fill up, tables of another layout.

load lib
load ctl

setup() {
    ctl_begin
}

teardown() {
    world_end
}

# The place as the snapshot says it, and a snapshot of something else: more, less and other.
two_states() {
    installed
    sed -e 's/10\.96\.0\.12/10.96.0.22/' -e 's/default\/way/default\/gate/' \
        -e 's/port: 8443/port: 9443/' -e 's/exemptPorts: .*\]/exemptPorts: [22]/' "$UNDER_TEST" >"$W/new.yaml"
    cat >>"$W/new.yaml" <<'END'
  - {uid: c//Pod/default/c, v4: 10.77.0.13, addresses: [10.77.0.13]}
END
    tables_say >"$W/old.json"
}

# at_work NAME CALL N VERB…: a verb that stops as it enters its N-th such system call.
at_work() {
    local name=$1 call=$2 number=$3
    shift 3
    rm -f "$W/$name.strace"
    bg "$name" node_exec strace -qq -e "trace=$call" -o "$W/$name.strace" \
        -e "inject=$call:signal=STOP:when=$number" "$KMESH_BIN/kmeshctl" "$@"
    eventually 10 is_stopped "$name"
}

is_stopped() {
    grep -q 'stopped by SIGSTOP' "$W/$1.strace" || return 1
    bg_alive "$1" || fail "$1 ended before it was stopped"
}

# The process that strace runs.
worker() {
    pgrep -P "$(bg_pid "$1")"
}

# Goes on, and must end well.
goes_on() {
    eventually 20 over_after_cont "$1"
    stop_bg "$1"
    [ "$STATUS" -eq 0 ] || fail "$1: exit status $STATUS: $(<"$W/log/$1")"
}

over_after_cont() {
    kill -CONT "$(worker "$1")" || true
    is_over "$1"
}

is_over() {
    ! bg_alive "$1"
}

# calls_of PATTERN VERB…: which bpf(2) calls of this verb are like that; one number a line.
calls_of() {
    local pattern=$1
    shift
    in_node strace -qq -e trace=bpf -o "$W/strace" "$KMESH_BIN/kmeshctl" "$@" >"$W/log/traced" 2>&1
    grep -nE "$pattern" "$W/strace" | cut -d : -f 1
}

WRITES='BPF_MAP_(UPDATE|DELETE)'

lock_is_free() {
    flock -n "$KMESH_BPF_ROOT" true
}

# ---- two at once ----

@test "a restore beside a restore at work is refused by the other's pid, and harms nothing" {
    two_states
    local write
    write=$(calls_of "$WRITES" restore "$W/new.yaml" | sed -n 3p)
    ctl restore "$UNDER_TEST"
    at_work first bpf "$write" restore "$W/new.yaml"
    run -2 ctl restore "$UNDER_TEST"
    [[ $output == *"(pid $(worker first)) writes the tables now"* ]]
    run -2 ctl restore "$UNDER_TEST" --rollback-after 1h
    [[ $output == *"(pid $(worker first)) writes the tables now"* ]]
    [ ! -e "$KMESH_STATE_DIR/rollback.json" ]
    # Who only looks is told, and not kept waiting.
    run -1 ctl verify
    [[ $output == *"a writer was at work at every look: the tables were not judged"* ]]
    run -1 --separate-stderr ctl dump all -o json
    jq -e '.consistent == false' <<<"$output" || fail "$stderr: ${output:0:400}"
    goes_on first
    is_good --against "$W/new.yaml"
    lock_is_free
}

@test "of restores that are started at once one wins, and the others are told who holds the lock" {
    two_states
    local round one status won
    for round in 1 2 3 4; do
        for one in 1 2 3; do
            bg "racer$one" node_exec "$KMESH_BIN/kmeshctl" restore \
                "$([ $(((round + one) % 2)) -eq 0 ] && echo "$UNDER_TEST" || echo "$W/new.yaml")"
        done
        won=0
        for one in 1 2 3; do
            eventually 20 is_over "racer$one"
            stop_bg "racer$one"
            status=$STATUS
            case $status in
            0) won=$((won + 1)) ;;
            2) grep -qE '\(pid [1-9][0-9]*\) writes the tables now' "$W/log/racer$one" ;;
            *) fail "exit status $status: $(<"$W/log/racer$one")" ;;
            esac
            rm "$W/log/racer$one"
        done
        [ "$won" -ge 1 ]
        is_good
        ctl verify --against "$UNDER_TEST" || ctl verify --against "$W/new.yaml"
    done
}

@test "purge beside a restore at work is refused by its pid, and the restore ends well" {
    two_states
    local write
    write=$(calls_of "$WRITES" restore "$W/new.yaml" | sed -n 3p)
    ctl restore "$UNDER_TEST"
    at_work first bpf "$write" restore "$W/new.yaml"
    run -2 ctl purge --yes
    [[ $output == *"(pid $(worker first)) is running"*"--stop-daemon"* ]]
    goes_on first
    is_good --against "$W/new.yaml"
}

@test "restore beside a purge at work is refused by its pid, and purge leaves nothing" {
    local at ids
    for at in 1 4; do
        installed
        ids=$(kernel_ids)
        at_work first unlink,unlinkat "$at" purge --yes
        run -2 ctl restore "$UNDER_TEST"
        [[ $output == *"(pid $(worker first)) writes the tables now"* ]]
        run -2 ctl purge --yes
        [[ $output == *"(pid $(worker first))"* ]]
        goes_on first
        nothing_left "$ids"
        [ ! -e "$KMESH_BPF_ROOT" ]
    done
    installed
    is_good --against "$UNDER_TEST"
}

# ---- SIGKILL in the middle ----

# Everything that a verb could leave: the maps' bytes, pins, files.
traces() {
    ctl dump maps --raw
    find "$W/bpf" "$W/state" "$W/run" -printf '%p %y %m %i %l\n' | sort
    find "$W/state" "$W/run" -type f -exec sha256sum {} +
}

# Kills the verb as it enters each of some bpf(2) calls, and as it opens some of its files.
leaves_no_trace() {
    local call number last status
    for call in bpf openat; do
        status=0
        in_node strace -qq -e "trace=$call" -o "$W/strace" "$KMESH_BIN/kmeshctl" "$@" \
            >"$W/log/traced" 2>&1 || status=$?
        [ "$status" -eq 0 ] || fail "$*: $(<"$W/log/traced")"
        last=$(wc -l <"$W/strace")
        [ "$last" -ge 4 ]
        # Some walk over all that is on the machine, which changes: not to the last one.
        for number in 1 $((last / 3)) $((last / 2)) $((last * 3 / 4)); do
            in_node strace -qq -e "trace=$call" -e "inject=$call:signal=KILL:when=$number" \
                -o "$W/strace" "$KMESH_BIN/kmeshctl" "$@" >"$W/log/killed" 2>&1 || true
            grep -q 'killed by SIGKILL' "$W/strace" || fail "$*: the kill at $call $number did not fire"
            lock_is_free
            traces >"$W/after"
            cmp "$W/before" "$W/after" || fail "$*, killed at $call $number, left something"
        done
    done
}

@test "dump, verify, status and explain leave no trace when they are killed" {
    left_by_daemon
    ctl verify
    traces >"$W/before"
    leaves_no_trace dump all -o json
    leaves_no_trace verify
    leaves_no_trace status
    leaves_no_trace explain --from 10.77.0.11 --to 10.96.0.10:80
    is_good --against "$UNDER_TEST"
}

@test "a restore that is killed at any of its writes converges when it is run again" {
    two_states
    local at points
    points=$(calls_of "$WRITES" restore "$W/new.yaml")
    [ "$(wc -l <<<"$points")" -ge 8 ]
    for at in $points; do
        from_the_start
        in_node strace -qq -e trace=bpf -e "inject=bpf:signal=KILL:when=$at" -o "$W/strace" \
            "$KMESH_BIN/kmeshctl" restore "$W/new.yaml" >"$W/log/killed" 2>&1 || true
        grep -q 'killed by SIGKILL' "$W/strace" || fail "the kill at $at did not fire"
        lock_is_free
        each_is_old_or_new
        ctl restore "$W/new.yaml"
        is_good --against "$W/new.yaml"
    done
}

# The old state as it was at first, so that the calls of a restore are the same each time.
from_the_start() {
    ctl purge --yes >"$W/log/purge"
    ctl restore "$UNDER_TEST"
}

# What connections meet is whole: verify knows no error; each VIP and endpoint is one of before or of
# after, and what is in both is there all the time; so is each waypoint.
each_is_old_or_new() {
    ctl verify || fail "verify found an error"
    whole
}

whole() {
    ctl dump all -o json >"$W/now.json" 2>"$W/log/dump"
    [ -s "$W/new.json" ] || new_state
    jq -e --slurpfile old "$W/old.json" --slurpfile new "$W/new.json" '
        def key: [.name, .port, .family, .kind];
        def between($now; $old; $new): ($now - $old - $new == []) and ($old - ($old - $new) - $now == []);
        .services as $now | all(($old[0].services + $new[0].services)[]; key as $key |
            def one($list): [$list[] | select(key == $key)][0] // {};
            one($now) as $n | one($old[0].services) as $o | one($new[0].services) as $w |
            between($n.vips // []; $o.vips // []; $w.vips // []) and
            between($n.endpoints // []; $o.endpoints // []; $w.endpoints // []) and
            ($n == {} or $n.waypoint == $o.waypoint or $n.waypoint == $w.waypoint) and
            (($n.endpoints // []) != [] or ($o.endpoints // []) == [] or ($w.endpoints // []) == []))' \
        "$W/now.json" || fail "neither old nor new: $(jq -c '.services[]' "$W/now.json")"
}

# What the new snapshot says in full, as the tables would: from a place of its own.
new_state() {
    mkdir "$TOP/aside"
    local place=(--bpf-root "$W/bpf/aside" --cgroup "$TOP/aside")
    ctl "${place[@]}" restore "$W/new.yaml"
    ctl "${place[@]}" dump all -o json | jq -S '{settings, services, workloads, pods}' >"$W/new.json"
    KMESH_STATE_DIR=$W/aside KMESH_RUN_DIR=$W/aside ctl "${place[@]}" purge --yes
    rmdir "$TOP/aside"
}

@test "a purge that is killed in the middle is finished by the next" {
    local call at last
    installed
    for call in unlink,unlinkat rmdir bpf; do
        in_node strace -qq -e "trace=$call" -o "$W/strace" "$KMESH_BIN/kmeshctl" purge --yes
        last=$(wc -l <"$W/strace")
        [ "$last" -ge 4 ]
        # How many bpf(2) calls it makes depends on what others have in the kernel: not to the last.
        for at in 1 $((last / 3)) $((last * 3 / 4)); do
            installed
            ids=$(kernel_ids)
            in_node strace -qq -e "trace=$call" -e "inject=$call:signal=KILL:when=$at" -o "$W/strace" \
                "$KMESH_BIN/kmeshctl" purge --yes >"$W/log/killed" 2>&1 || true
            grep -q 'killed by SIGKILL' "$W/strace" || fail "the kill at $call $at did not fire"
            run -0 ctl purge --yes
            nothing_left "$ids"
            [ ! -e "$KMESH_BPF_ROOT" ] && [ ! -e "$KMESH_STATE_DIR" ] && [ ! -e "$KMESH_RUN_DIR" ]
        done
        installed
    done
}

# ---- maps that fill up ----

@test "what does not fit is refused before the first write, by map, limit and option" {
    mesh <<<'services: []'
    local limit option map number
    while read -r limit option map number; do
        export "$limit=$number"
        daemon_up
        daemon_stop
        snapshot
        smallest >"$W/fits.yaml"
        ctl restore "$W/fits.yaml"
        ctl dump all -o json >"$W/before.json"
        run -2 ctl restore "$UNDER_TEST"
        [[ $output == *"nothing was written"* && $output == *"$map"* && $output == *"$number"* &&
            $output == *"$option"* ]] || fail "$limit: $output"
        ctl dump all -o json | cmp - "$W/before.json"
        is_good --against "$W/fits.yaml" || ctl verify --against "$W/fits.yaml"
        ctl purge --yes >"$W/log/purge"
        unset "$limit"
    done <<'END'
KMESH_MAX_FRONTENDS --max-frontends kmesh_frontend 6
KMESH_MAX_SERVICES --max-services kmesh_service 3
KMESH_MAX_ENDPOINTS --max-endpoints kmesh_endpoint 6
KMESH_MAX_WORKLOADS --max-workloads kmesh_backend 1
KMESH_MAX_NAMES --max-names kmesh_names 5
END
}

# Two services of one workload.
smallest() {
    cat <<'END'
schemaVersion: 1
services:
  - {name: default/web, port: 80, family: ipv4, kind: service, vips: [10.96.0.10], synced: true,
     endpoints: [{workload: c//Pod/default/a, port: 8080, family: ipv4}]}
  - {name: default/web, port: 80, family: ipv6, kind: service, vips: ["fd96::10"], synced: true,
     endpoints: [{workload: c//Pod/default/a, port: 8080, family: ipv6}]}
workloads:
  - {uid: c//Pod/default/a, v4: 10.77.0.11, v6: "fd77::11", addresses: [10.77.0.11, "fd77::11"]}
END
}

@test "a map that the kernel finds full in the middle: what was in force governs, and again converges" {
    two_states
    local at points error
    points=$(calls_of "$WRITES" restore "$W/new.yaml")
    for error in E2BIG ENOMEM; do
        for at in $points; do
            from_the_start
            # From this call on every one is refused.
            run -2 in_node strace -qq -e trace=bpf -e "inject=bpf:error=$error:when=$at+" \
                -o "$W/strace" "$KMESH_BIN/kmeshctl" restore "$W/new.yaml"
            grep -q INJECTED "$W/strace" || fail "the refusal at $at did not fire"
            lock_is_free
            each_is_old_or_new
            ctl restore "$W/new.yaml"
            is_good --against "$W/new.yaml"
        done
    done
}

@test "one refusal of the kernel: a full map is told by name, anything else is tried again" {
    two_states
    local at points
    points=$(calls_of "$WRITES" restore "$W/new.yaml")
    for at in $points; do
        from_the_start
        run in_node strace -qq -e trace=bpf -e "inject=bpf:error=E2BIG:when=$at" \
            -o "$W/strace" "$KMESH_BIN/kmeshctl" restore "$W/new.yaml"
        grep -q INJECTED "$W/strace" || fail "the refusal at $at did not fire"
        # A removal fills no map: that, too, is tried again.
        if grep -q 'DELETE.*INJECTED' "$W/strace"; then
            [ "$status" -eq 0 ]
            is_good --against "$W/new.yaml"
            continue
        fi
        [[ $status -eq 2 && $output == *"is full: its limit is"* ]] || fail "$at: $output"
        # At most it says that a workload is there which nothing leads to yet.
        run ctl verify
        [[ $output == good:* || $output == *"workload c//Pod/default/c "*"unreferenced"* ]]
        [ "${#lines[@]}" -eq 1 ]
        whole
        from_the_start
        run -0 in_node strace -qq -e trace=bpf -e "inject=bpf:error=ENOMEM:when=$at" \
            -o "$W/strace" "$KMESH_BIN/kmeshctl" restore "$W/new.yaml"
        grep -q INJECTED "$W/strace" || fail "the refusal at $at did not fire"
        is_good --against "$W/new.yaml"
    done
}

# ---- another layout ----

@test "tables of another layout are not written: restore names the pin and the way out" {
    installed
    ctl dump all -o json >"$W/save.json"
    # The layout version: bytes 4 and following, after the magic; as another build's would be.
    set_element kmesh_meta 0 "$(element kmesh_meta 0 | sed -E 's/^(([0-9a-f]{2} ){8})../\163/')"
    raw >"$W/before"
    run -2 ctl restore "$W/save.json"
    [[ $output == *"$KMESH_BPF_ROOT/maps/kmesh_meta is of layout 99"*"kmeshctl purge"* ]]
    run -2 ctl restore "$W/save.json" --rollback-after 1h
    [[ $output == *"layout 99"* ]]
    run -2 ctl restore --dry-run "$W/save.json"
    [[ $output == *"layout 99"* ]]
    raw | cmp - "$W/before"
    [ ! -e "$KMESH_STATE_DIR/rollback.json" ]
    lock_is_free
    # A snapshot speaks of no layout: it outlives the tables that it was taken of.
    run -0 ctl purge --yes
    ctl restore "$W/save.json"
    is_good --against "$W/save.json"
}

# Every map's bytes, whatever they mean.
raw() {
    local pin
    for pin in "$KMESH_BPF_ROOT"/maps/*; do
        echo "${pin##*/} $(bpftool -j map dump pinned "$pin" 2>/dev/null | sha256sum)"
    done
}

@test "a map of another layout in its place is refused by name, and nothing is written" {
    installed
    ctl dump all -o json >"$W/save.json"
    sed 's/10\.96\.0\.12/10.96.0.22/' "$UNDER_TEST" >"$W/new.yaml"
    rm "$KMESH_BPF_ROOT/maps/kmesh_service"
    bpftool map create "$KMESH_BPF_ROOT/maps/kmesh_service" type array key 4 value 16 entries 8 \
        name kmesh_service
    raw >"$W/before"
    run -2 ctl restore "$W/new.yaml"
    [[ $output == *"$KMESH_BPF_ROOT/maps/kmesh_service"*"kmeshctl purge"* ]]
    raw | cmp - "$W/before"
    run -0 ctl purge --yes
    ctl restore "$W/save.json"
    is_good --against "$W/save.json"
}

@test "a snapshot that says a layout is of no schema that is known" {
    installed
    ctl dump all -o json >"$W/save.json"
    jq -e 'has("layout") or has("layoutVersion") | not' "$W/save.json"
    jq '.layoutVersion = 2 | del(.checksum)' "$W/save.json" >"$W/other.json"
    run -2 ctl restore "$W/other.json"
    [[ $output == *"other.json"*"unknown field \`layoutVersion\`"* ]]
    ctl dump all -o json | cmp - "$W/save.json"
}
