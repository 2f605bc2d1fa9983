#!/usr/bin/env bats
# Lines that fail below the protocol: slow, torn, reset, silent, of another protocol; and a control
# plane that shuts down, or says far too much. What is in force stays, nothing is half taken, and what
# is wrong is said with what helps.

load lib
load town
load plane

setup() {
    world_begin
    town
    client_mesh
    plane_start
    plane_web a b
}

teardown() {
    world_end
}

# ---- messages that take long, or are never whole ----

@test "a response that trickles for 15 s is waited for, and is in force as a whole" {
    xds_up
    probe_web a,b --every-ms 5
    # A message of 450 KB.
    plane_tell '{"faults":{"bytes_per_second":30000}}'
    plane_remove a
    eventually 5 names_only b
    expect_web b
    plane_tell '{"many":{"services":40,"endpoints":50}}'
    sleep 9
    # Half of it has come: nothing of it is in force, and nobody thinks the line dead.
    metric_is kmesh_xds_connections_total 1
    metric_is kmesh_workloads 2
    names_only b
    eventually 30 metric_is kmesh_workloads 2002
    metric_is kmesh_xds_connections_total 1
    prober_stop 100
}

# broken FAULT: every connection breaks by it within the message; nothing of that is taken, and when
# it no longer does, only what is missing is sent.
broken() {
    xds_up
    probe_web a,b --every-ms 5
    local written
    written=$(metric kmesh_map_elements_written_total)
    plane_tell "{\"faults\":{$1}}"
    plane_tell '{"many":{"services":40,"endpoints":50}}'
    eventually 10 metric_over kmesh_xds_connections_total 3
    log_says "$2"
    metric_is kmesh_workloads 3
    metric_is kmesh_map_elements_written_total "$written"
    ctl verify
    plane_tell '{"faults":{}}'
    eventually 30 metric_is kmesh_workloads 2003
    # The daemon told what it holds.
    heard '.known == 3 and .nacks == []'
    prober_stop 100
    ctl verify --against daemon
}

metric_over() {
    [ "$(metric "$1")" -gt "$2" ]
}

@test "a stream that is reset in the middle of a message takes nothing with it" {
    broken '"tear_after":100000' "ended the stream"
}

@test "a connection that is reset in the middle of a frame takes nothing with it" {
    broken '"reset_after":100000' "ended the stream"
}

# ---- lines that say nothing useful ----

@test "a peer that closes, hangs or speaks HTTP/1.1 is given up in bounded time, with a hint" {
    xds_up
    daemon_stop KILL
    meets close "Is it a control plane?"
    meets http1 "Is it a control plane?"
    names_only a b
    # It is tried again until it serves.
    plane_tell '{"faults":{}}'
    daemon_ready 30
    names_only a b
    daemon_stop KILL
    # A TLS handshake that is never answered.
    stop_bg plane KILL
    plane_start --pki "$W/pki"
    plane_tell '{"faults":{"greeting":"hang"}}'
    : >"$W/log/kmeshd"
    echo good >"$W/token"
    daemon_start --xds https://127.0.0.1:15010 --xds-token "$W/token" \
        --xds-root-cert "$W/pki/root.pem"
    eventually 20 log_says "not within 10 s"
    names_only a b
}

# meets GREETING WORDS: a daemon that starts says the words, and is not ready.
meets() {
    plane_tell "{\"faults\":{\"greeting\":\"$1\"}}"
    [ ! -e "$W/pids/kmeshd" ] || daemon_stop KILL
    : >"$W/log/kmeshd"
    daemon_start --xds "$XDS"
    eventually 10 log_says "$2"
    if daemon_is_ready; then fail "it is ready"; fi
}

@test "a control plane that shuts down says GOAWAY and Unavailable; its next life finds nothing lost" {
    xds_up
    probe_web a,b --every-ms 5
    local written
    written=$(metric kmesh_map_elements_written_total)
    plane_tell '"shutdown"'
    eventually 5 log_says "shutting down"
    eventually 5 log_says "nobody listens there"
    metric_is kmesh_xds_connected 0
    stop_bg plane KILL
    plane_start
    plane_web a b
    eventually 20 metric_is kmesh_xds_connected 1
    eventually 5 heard '.acks >= 2 and .nacks == []'
    # If it began with nothing, that was not believed.
    eventually 5 metric_is kmesh_xds_held_back 0
    names_only a b
    metric_is kmesh_map_elements_written_total "$written"
    prober_stop 100
}

# ---- far too much ----

# The daemon's anonymous memory at its peak, in KiB.
peak_anonymous() {
    sort -n "$W/log/sample" | tail -n 1 | cut -d ' ' -f 1
}

# 400 services of 25 workloads each; `just proof-flood` has 20,000, and the default limit.
@test "an answer that the tables cannot hold: said with map and option, the rest served, memory bounded" {
    local services=${KMESH_FLOOD_SERVICES:-400} limit=${KMESH_FLOOD_LIMIT:-4096} sent peak
    xds_up --max-workloads "$limit"
    sample
    plane_tell "{\"many\":{\"services\":$services,\"endpoints\":25}}"
    eventually 90 says "the rest is in force" ctl status
    # Of half a million, the addresses are found too many first.
    log_says "elements are needed, its limit is $limit; raise it with --max-workloads"
    heard '.nacks == []'
    # At most 60 MB and, while it is taken apart, six times what was sent.
    sent=$(plane_tell '"report"' | jq .largestResponse)
    peak=$(peak_anonymous)
    echo "$((services * 25)) workloads in $sent bytes: at most $peak KiB" >&2
    [ "$peak" -lt $((60000 + 6 * sent / 1024)) ]
    # What there is room for is there, whole; nothing is frozen; more is no reason to be ready.
    names_only a b
    [ "$(metric 'kmesh_map_entries{map="kmesh_backend"}')" -gt $((limit * 9 / 10)) ]
    ctl verify
    plane_remove a
    eventually 120 names_only b
    # With room for all, all is taken.
    daemon_stop TERM
    daemon_start --xds "$XDS" --max-workloads 600000 --max-endpoints 700000 --max-frontends 700000 \
        --max-names 1200000 --max-services 60000
    daemon_ready 90
    metric_is 'kmesh_map_entries{map="kmesh_backend"}' $((services * 25 + 2))
    names_only b
}

# Notes the daemon's anonymous memory from now on.
sample() {
    local pid
    pid=$(bg_pid kmeshd)
    bg sample sh -c "while sleep 0.05; do sed -n 's/^RssAnon:[^0-9]*//p' /proc/$pid/status; done"
}
