#!/usr/bin/env bats
# shellcheck disable=SC2154 # set by lib.bash and run
bats_require_minimum_version 1.5.0
# kmeshctl explain: for each outcome of connect(), what it says is what a real connection from that
# pod gets, and the counter that it names is the one that moves. The daemon is dead throughout.

load lib
load traffic

HELLO=68656c6c6f

setup() {
    world_begin
    pod client 10.77.0.2 fd77::2
    pod a 10.77.0.11 fd77::11
    pod b 10.77.0.12 fd77::12
    pod w 10.77.0.21 fd77::21
    hear a a 8080
    hear b b 8080
    hear w w 15019
    hear leak leak 80 81 udp:10.96.0.10:80
}

teardown() {
    world_end
}

# Client and waypoint are enrolled; passer is bypassed, stranger is not managed; every kind of
# service.
whole_town() {
    pod stranger 10.77.0.3 fd77::3
    pod passer 10.77.0.4 fd77::4
    enrol client w passer:bypass
    tables_begin
    workload client
    workload passer
    workload a
    workload b "$(by wp 15019)"
    workload w '{"isWaypoint": true}'
    waypoint wp ipv4 15019 "w:15019"
    waypoint wp ipv6 15019 "w:15019"
    waypoint gone ipv4 15019 ""
    waypoint six ipv4 15019 "w:15019:ipv6"
    service web 10.96.0.10 80 "a:8080 b:8080"
    service web fd96::10 80 "a:8080 b:8080"
    service way 10.96.0.11 80 "a:8080" "$(by wp 15019)"
    service way fd96::11 80 "a:8080" "$(by wp 15019)"
    service nowhere 10.96.0.12 80 "a:8080" "$(by gone 15019)"
    service way6 10.96.0.13 80 "a:8080" "$(by six 15019)"
    service four fd96::4 80 "a:8080:ipv4"
    service six 10.96.0.6 80 "a:8080:ipv6"
    service some 10.96.0.7 80 "a:8080 b:8080:ipv6"
    service empty 10.96.0.40 80 "" '{"mode": "strict"}'
    service strict 10.96.0.44 80 "b:8080" '{"mode": "strict"}'
    service unknown 10.96.0.41 80 "" '{"synced": false}'
    service partly 10.96.0.42 80 "b:8080" '{"synced": false}'
    service through 10.96.0.43 80 "a:8080" '{"mode": "passthrough"}'
    settings '{"exemptPorts": [25]}'
    service way 10.96.0.11 25 "a:8080" "$(by wp 15019)"
    tables_end
}

# agree VERDICT OUTCOME POD ADDR:PORT [EXPLAIN OPTION…] [-- DIAL OPTION…]: explain says that
# verdict and outcome, and a real connection gets just that.
agree() {
    local verdict=$1 outcome=$2 pod=$3 to=$4 options=() got said counts=()
    shift 4
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    said=$(ctl explain --from "$W/netns/$pod" --to "$to" -o json "${options[@]}") ||
        [ $? -eq 1 ] || fail "explain failed for $pod to $to"
    [ "$(jq -r '"\(.verdict) \(.outcomes | map(.outcome) | join(","))"' <<<"$said")" = "$verdict $outcome" ] ||
        fail "$pod to $to: expected $verdict $outcome: $said"
    count_from
    got=$(dial "$pod" "$to" "${@:2}")
    mapfile -t counts < <(jq -r '(.outcomes[0] | select(.counter) | "\(.counter)=1",
        (select(.counter == "waypoint") | "metadata_sent=1"),
        (select(.retried > 0) | "retried=\(.retried)")),
        (.inbound[:1][] | select(.counter) | "\(.counter)=1")' <<<"$said" | sort -u)
    counted "${counts[@]}"
    case $verdict in
    refused) [[ $got == "connect: Connection refused"* ]] || fail "$to: explained as refused, but: $got" ;;
    passes) [[ $got == "${LANDS-leak} from "*" heard $HELLO peer "* ]] || fail "$to: explained as passing, but: $got" ;;
    steered) is_one_of "$got" "$said" || fail "$to: $said, but: $got" ;;
    *) fail "no such verdict: $verdict" ;;
    esac
}

# is_one_of ANSWER EXPLANATION: the server that answered is among the endpoints, at the address that
# is explained; it heard the metadata that is explained, then the payload.
is_one_of() {
    jq -e --arg name "${1%% *}" --arg peer "${1##* peer }" '
        any(.endpoints[]; (.workload | endswith("/\($name)"))
            and (.target == $peer or .target == ($peer | sub("\\[::ffff:(?<ip>[0-9.]+)\\]"; "\(.ip)"))))' \
        <<<"$2" >/dev/null &&
        [[ $1 == *" heard $(jq -r '.waypoint.metadata.bytes // ""' <<<"$2")$HELLO peer "* ]]
}

@test "steered: IPv4, IPv6, v4-mapped, the other family" {
    whole_town
    agree steered steered client 10.96.0.10:80
    agree steered steered client '[fd96::10]:80'
    agree steered steered client '[::ffff:10.96.0.10]:80'
    agree steered steered client '[fd96::4]:80'
    agree steered steered client '[::ffff:10.96.0.6]:80'
    agree steered steered client 10.96.0.42:80
    agree steered steered client 10.96.0.44:80
    # an IPv4 address by an IPv6 socket is the same as v4-mapped
    [ "$(ctl explain --from client --to 10.96.0.6:80 --family 6 -o json | jq -r .verdict)" = steered ]
    # every endpoint that explain names answers, and no other
    run -0 ctl explain --from client --to 10.96.0.10:80 -o json
    [ "$(jq -c '.endpoints | map([.workload, .chance])' <<<"$output")" = \
        '[["Kubernetes//Pod/default/a",0.5],["Kubernetes//Pod/default/b",0.5]]' ]
    [ "$(dial client 10.96.0.10:80 --count 40 | cut -d ' ' -f 1 | sort -u | tr -d '\n')" = ab ]
}

@test "passes: not managed, the host, bypassed, a miss, UDP, PASSTHROUGH, unsynced" {
    whole_town
    agree passes unmanaged stranger 10.96.0.10:80
    agree passes unmanaged stranger '[fd96::10]:80'
    agree passes unmanaged node 10.96.0.10:80
    agree passes bypass passer 10.96.0.10:80
    agree passes bypass passer '[::ffff:10.96.0.10]:80'
    agree passes miss client 10.96.0.10:81
    agree passes miss client 10.96.0.99:80
    LANDS=a agree passes miss client 10.77.0.11:8080
    agree passes not-tcp client 10.96.0.10:80 --protocol udp -- --way udp
    agree passes passthrough client 10.96.0.43:80
    agree passes unsynced client 10.96.0.41:80
}

@test "refused: empty and STRICT, another family, a waypoint without endpoints" {
    whole_town
    agree refused refused-empty client 10.96.0.40:80
    agree refused refused-empty client '[::ffff:10.96.0.40]:80'
    agree refused refused-waypoint client 10.96.0.12:80
    agree refused refused-family client 10.96.0.6:80
    agree refused refused-family client 10.96.0.13:80
    agree refused refused-family client '[fd96::4]:80' --v6only -- --v6only
    agree refused refused-family client '[fd96::4]:80' --bind fd77::2 -- --bind '[fd77::2]:0'
    agree refused refused-family client '[::ffff:10.96.0.6]:80' --bind 10.77.0.2 -- --bind '[::ffff:10.77.0.2]:0'
    run -1 ctl explain --from client --to 10.96.0.40:80
    [[ $output == *"refused: the service is synced and has no endpoint: ECONNREFUSED; counted as refused_empty" ]]
}

@test "a waypoint: of a service, of a workload, its own, an exempt port" {
    whole_town
    agree steered waypoint client 10.96.0.11:80
    agree steered waypoint client '[fd96::11]:80'
    agree steered waypoint client '[::ffff:10.96.0.11]:80'
    agree steered waypoint client 10.77.0.12:8080
    agree steered waypoint client '[fd77::12]:8080'
    agree steered waypoint client '[::ffff:10.96.0.13]:80'
    agree steered waypoint-self w 10.96.0.11:80
    LANDS=b agree passes miss w 10.77.0.12:8080
    agree steered steered client 10.96.0.11:25
    settings '{"metadata": "proxy-v2"}'
    tables_end
    run -0 ctl explain --from client --to 10.96.0.11:80 -o json
    jq -e '.waypoint.metadata == {format: "proxy-v2", destination: "10.96.0.11:80"}' <<<"$output"
}

# admits ADMISSION WHY POD FROM ADDR:PORT [COUNTER=N…]: explain says that and why of the pod at the
# other end, and a real connection gets just that. The counters are those of the way to it.
admits() {
    local admission=$1 why=$2 pod=$3 from=$4 to=$5 said got counts=()
    shift 5
    said=$(ctl explain --from "$from" --to "$to" -o json) ||
        [ $? -eq 1 ] || fail "explain failed for $pod to $to"
    jq -e --arg admission "$admission" --arg why "$why" '(.inbound | length == 1) and
        .inbound[0].admission == $admission and (.inbound[0].why | contains($why)) and
        .verdict == if $admission == "denied" then "refused" else "passes" end' <<<"$said" ||
        fail "$pod to $to: expected $admission, $why: $said"
    count_from
    got=$(dial "$pod" "$to")
    mapfile -t counts < <(jq -r '.inbound[0].counter | values | "\(.)=1"' <<<"$said")
    counted "$@" "${counts[@]}"
    case $admission in
    denied) [[ $got == "connect: Connection refused"* ]] || fail "$to: explained as denied, but: $got" ;;
    *) [[ $got == ?" from "*" heard $HELLO peer "* ]] || fail "$to: explained as let in, but: $got" ;;
    esac
}

@test "the pod at the other end: denied and allowed by a policy, no policy, bypass" {
    pod stranger 10.77.0.3 fd77::3
    hear a a8081 8081
    enrol client a b:bypass w
    tables_begin
    workload client "$(account client)"
    workload a "$(account a)"
    workload b "$(account b)"
    workload w "$(account w elsewhere)"
    policy no-client Deny '[[[{"destinationPorts": [8080]}],
        [{"principals": [{"Exact": "cluster.local/ns/default/sa/client"}]}]]]'
    policy subnet Allow '[[[{"sourceIps": ["10.77.0.0/16"]}]]]'
    tables_end
    admits denied "policy default/no-client, group 1" client client 10.77.0.11:8080 miss=1
    admits denied "policy default/no-client, group 1" client client '[fd77::11]:8080' miss=1
    admits allowed "policy default/subnet, group 1" stranger 10.77.0.3 10.77.0.11:8080
    admits denied "ALLOW policies apply to the pod, and none of them matches" stranger fd77::3 '[fd77::11]:8080'
    admits no-policy "no policy applies" client client 10.77.0.21:15019 miss=1
    admits bypass "bypassed" client client 10.77.0.12:8080 miss=1
    admits bypass "bypassed" stranger fd77::3 '[fd77::12]:8080'
    run -1 ctl explain --from client --to 10.77.0.11:8080
    [[ $output == *"inbound "*"default/no-client"*"counted as auth_denied" ]]
}

@test "endpoints of which only some can be reached: it varies, and both happen" {
    local got
    whole_town
    run -1 ctl explain --from client --to 10.96.0.7:80 -o json
    jq -e '.verdict == "varies" and (.outcomes | map([.outcome, .chance]) | sort
        == [["refused-family", 0.5], ["steered", 0.5]])' <<<"$output"
    got=$(dial client 10.96.0.7:80 --count 40 | cut -d ' ' -f 1 | sort -u | tr '\n' ' ')
    [ "$got" = "a connect: " ]
}

@test "tables that do not fit together: refused as stale, as often retried" {
    local word
    whole_town
    word=$(bpftool -j map lookup pinned "$KMESH_BPF_ROOT/maps/kmesh_frontend" \
        key 0 0 0 0 0 0 0 0 0 0 255 255 10 96 0 10 0 80 0 0 | jq -r '.value | join(" ")')
    # shellcheck disable=SC2086 # bytes
    bpftool map update pinned "$KMESH_BPF_ROOT/maps/kmesh_frontend" \
        key 0 0 0 0 0 0 0 0 0 0 255 255 10 96 0 10 0 80 0 0 value ${word% * * * *} 0 0 0 0
    agree refused refused-stale client 10.96.0.10:80
    run -1 ctl explain --from client --to 10.96.0.10:80
    [[ $output == *"another key's word"*"kmeshctl verify"* ]]
}

@test "a hook that is not in force: everything passes, nothing is counted" {
    whole_town
    bpftool link detach pinned "$KMESH_BPF_ROOT/links/connect4"
    agree passes no-hook client 10.96.0.10:80
    agree steered steered client '[fd96::10]:80'
    # without its pin the program is still in force
    rm "$KMESH_BPF_ROOT/progs/connect6"
    agree steered steered client '[fd96::10]:80'
}

@test "a pod is named by uid, namespace/name, name, address, cookie or namespace" {
    local cookie name
    whole_town
    cookie=$(ctl dump pods -o json | jq '.pods[] | select(.uid | endswith("/client")).cookie')
    for name in Kubernetes//Pod/default/client default/client client 10.77.0.2 fd77::2 "$cookie" "$W/netns/client"; do
        run -0 --separate-stderr ctl explain --from "$name" --to 10.96.0.10:80 -o json
        jq -e --argjson cookie "$cookie" '.from.cookie == $cookie and .from.uid == "Kubernetes//Pod/default/client"
            and .verdict == "steered"' <<<"$output"
    done
    bg sleeper pod_exec client sleep 60
    run -0 ctl explain --from "pid:$(bg_pid sleeper)" --to 10.96.0.10:80 -o json
    jq -e --argjson cookie "$cookie" '.from.cookie == $cookie' <<<"$output"
    # a workload that is not of this node's managed pods, and an address of nobody
    for name in 10.77.0.11 10.77.0.3; do
        run -0 ctl explain --from "$name" --to 10.96.0.10:80
        [[ $output == *"no managed pod of this node"*"passes: its network namespace is not managed"* ]]
    done
    run -2 --separate-stderr ctl explain --from stranger --to 10.96.0.10:80
    [[ $stderr == *'no enrolled pod of this node is called "stranger"'*"default/client"* ]]
    [ -z "$output" ]
    run -2 ctl explain --from "$W/netns/nobody" --to 10.96.0.10:80
    [[ $output == *"open network namespace $W/netns/nobody"* ]]
    run -2 ctl explain --from client --to '[fd96::10]:80' --family 4
    [[ $output == *"an IPv4 socket cannot dial [fd96::10]:80"* ]]
}

@test "for people: the steps in order, the endpoints, the end" {
    whole_town
    run -0 --separate-stderr ctl explain --from client --to 10.96.0.11:80
    [ -z "$stderr" ]
    [[ $output == *"hook "*"pod "*"protocol "*"bypass "*"frontend "*"service "*"default/way port 80 (IPv4)"* ]]
    [[ $output == *"waypoint "*"default/wp port 15019"*"endpoint "*"family "* ]]
    [[ $output == *"metadata  10.96.0.11:80 as tlv: 01000000060a60000b0050fe00000000"* ]]
    [[ $output == *"Kubernetes//Pod/default/w"*"10.77.0.21:15019"*"100.0 %"*"waypoint"* ]]
    [[ $output == *"steered: sent to the waypoint"*"counted as waypoint" ]]
}

@test "it writes nothing and reads only what lies on the way" {
    whole_town
    strace -f -qq -e trace=bpf,mmap -o "$W/strace" "$KMESH_BIN/kmeshctl" explain --from client --to 10.96.0.10:80
    [ -s "$W/strace" ]
    run -1 grep -E 'BPF_MAP_(UPDATE|DELETE)|BPF_OBJ_PIN|BPF_LINK|MAP_SHARED.*bpf' "$W/strace"
    # whole tables are read in batches: only the node's pods are
    [ "$(grep -c BPF_MAP_LOOKUP_BATCH "$W/strace")" -le 2 ]
    [ "$(grep -c BPF_MAP_LOOKUP_ELEM "$W/strace")" -le 64 ]
}
