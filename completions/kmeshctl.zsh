#compdef kmeshctl

autoload -U is-at-least

_kmeshctl() {
    typeset -A opt_args
    typeset -a _arguments_options
    local ret=1

    if is-at-least 5.2; then
        _arguments_options=(-s -S -C)
    else
        _arguments_options=(-s -C)
    fi

    local context curcontext="$curcontext" state line
    _arguments "${_arguments_options[@]}" : \
'--bpf-root=[Kmesh'\''s directory on a BPF file system]:BPF_ROOT:_files' \
'--cgroup=[The cgroup whose connections are governed \[default\: the root of the cgroup2 hierarchy\]]:CGROUP:_files' \
'--state-dir=[What Kmesh keeps over a reboot]:STATE_DIR:_files' \
'--run-dir=[What Kmesh keeps while it runs]:RUN_DIR:_files' \
'--color=[Colours\: \`auto\` means on a terminal, unless \`NO_COLOR\` is set]:WHEN:((auto\:"On a terminal"
always\:"Always"
never\:"Never"))' \
'-v[Say more on standard error]' \
'--verbose[Say more on standard error]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'-V[Print version]' \
'--version[Print version]' \
":: :_kmeshctl_commands" \
"*::: :->kmeshctl" \
&& ret=0
    case $state in
    (kmeshctl)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:kmeshctl-command-$line[1]:"
        case $line[1] in
            (dump)
_arguments "${_arguments_options[@]}" : \
'-o+[How to write it]:OUTPUT:((table\:"For people"
wide\:"For people with wide screens"
json\:"For scripts"
yaml\:"For both"))' \
'--output=[How to write it]:OUTPUT:((table\:"For people"
wide\:"For people with wide screens"
json\:"For scripts"
yaml\:"For both"))' \
'--service=[Only this service\: namespace/host, or namespace/ for all of it]:NAME:_default' \
'--workload=[Only this workload\: its uid, or namespace/name]:UID:_default' \
'--pod=[Only this pod\: its uid, namespace/name, or netns cookie]:POD:_default' \
'--address=[Only what has this address\: a VIP, or a workload'\''s]:IP:_default' \
'--bpf-root=[Kmesh'\''s directory on a BPF file system]:BPF_ROOT:_files' \
'--cgroup=[The cgroup whose connections are governed \[default\: the root of the cgroup2 hierarchy\]]:CGROUP:_files' \
'--state-dir=[What Kmesh keeps over a reboot]:STATE_DIR:_files' \
'--run-dir=[What Kmesh keeps while it runs]:RUN_DIR:_files' \
'--color=[Colours\: \`auto\` means on a terminal, unless \`NO_COLOR\` is set]:WHEN:((auto\:"On a terminal"
always\:"Always"
never\:"Never"))' \
'--raw[Keys and values in hex, of any layout; all-zero elements of arrays are left out]' \
'-v[Say more on standard error]' \
'--verbose[Say more on standard error]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::what -- What to show:((maps\:"Services, workloads, pods, settings, counters; limits and fill"
programs\:"The programs, and whether they run"
links\:"The links that keep them attached"
pods\:"The managed pods of this node"
all\:"All of it; as JSON or YAML\: a complete snapshot"))' \
'*::names -- Only these maps, hooks or pods:_default' \
&& ret=0
;;
(restore)
_arguments "${_arguments_options[@]}" : \
'-o+[How --dry-run is shown]:OUTPUT:((table\:"One line each"
json\:"For scripts"))' \
'--output=[How --dry-run is shown]:OUTPUT:((table\:"One line each"
json\:"For scripts"))' \
'*--only=[Only these parts\: settings, services, workloads, pods, service=NAME, workload=UID]:PART:_default' \
'--bpf-root=[Kmesh'\''s directory on a BPF file system]:BPF_ROOT:_files' \
'--cgroup=[The cgroup whose connections are governed \[default\: the root of the cgroup2 hierarchy\]]:CGROUP:_files' \
'--state-dir=[What Kmesh keeps over a reboot]:STATE_DIR:_files' \
'--run-dir=[What Kmesh keeps while it runs]:RUN_DIR:_files' \
'--color=[Colours\: \`auto\` means on a terminal, unless \`NO_COLOR\` is set]:WHEN:((auto\:"On a terminal"
always\:"Always"
never\:"Never"))' \
'--dry-run[Show what would change, and change nothing]' \
'--any-node[Also a snapshot of another node]' \
'-v[Say more on standard error]' \
'--verbose[Say more on standard error]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':file -- The snapshot, JSON or YAML; `-` is standard input:_files' \
&& ret=0
;;
(status)
_arguments "${_arguments_options[@]}" : \
'-o+[How to write it]:OUTPUT:((table\:"One screen"
json\:"For scripts; with \`--watch\`, one line each"))' \
'--output=[How to write it]:OUTPUT:((table\:"One screen"
json\:"For scripts; with \`--watch\`, one line each"))' \
'-w+[Again and again, every so many seconds]::SECONDS:_default' \
'--watch=[Again and again, every so many seconds]::SECONDS:_default' \
'--bpf-root=[Kmesh'\''s directory on a BPF file system]:BPF_ROOT:_files' \
'--cgroup=[The cgroup whose connections are governed \[default\: the root of the cgroup2 hierarchy\]]:CGROUP:_files' \
'--state-dir=[What Kmesh keeps over a reboot]:STATE_DIR:_files' \
'--run-dir=[What Kmesh keeps while it runs]:RUN_DIR:_files' \
'--color=[Colours\: \`auto\` means on a terminal, unless \`NO_COLOR\` is set]:WHEN:((auto\:"On a terminal"
always\:"Always"
never\:"Never"))' \
'-v[Say more on standard error]' \
'--verbose[Say more on standard error]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(verify)
_arguments "${_arguments_options[@]}" : \
'--against=[Compare the tables with this snapshot, too; \`-\` is standard input, \`daemon\` what the running daemon wants]:FILE|-|daemon:_files' \
'-o+[How to write it]:OUTPUT:((table\:"One line each"
json\:"For scripts"))' \
'--output=[How to write it]:OUTPUT:((table\:"One line each"
json\:"For scripts"))' \
'--bpf-root=[Kmesh'\''s directory on a BPF file system]:BPF_ROOT:_files' \
'--cgroup=[The cgroup whose connections are governed \[default\: the root of the cgroup2 hierarchy\]]:CGROUP:_files' \
'--state-dir=[What Kmesh keeps over a reboot]:STATE_DIR:_files' \
'--run-dir=[What Kmesh keeps while it runs]:RUN_DIR:_files' \
'--color=[Colours\: \`auto\` means on a terminal, unless \`NO_COLOR\` is set]:WHEN:((auto\:"On a terminal"
always\:"Always"
never\:"Never"))' \
'-v[Say more on standard error]' \
'--verbose[Say more on standard error]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(purge)
_arguments "${_arguments_options[@]}" : \
'--bpf-root=[Kmesh'\''s directory on a BPF file system]:BPF_ROOT:_files' \
'--cgroup=[The cgroup whose connections are governed \[default\: the root of the cgroup2 hierarchy\]]:CGROUP:_files' \
'--state-dir=[What Kmesh keeps over a reboot]:STATE_DIR:_files' \
'--run-dir=[What Kmesh keeps while it runs]:RUN_DIR:_files' \
'--color=[Colours\: \`auto\` means on a terminal, unless \`NO_COLOR\` is set]:WHEN:((auto\:"On a terminal"
always\:"Always"
never\:"Never"))' \
'-y[Do not ask]' \
'--yes[Do not ask]' \
'(-y --yes --stop-daemon)--dry-run[Show what would go, and remove nothing]' \
'--stop-daemon[End a daemon that is running (SIGTERM), and wait for its end]' \
'-v[Say more on standard error]' \
'--verbose[Say more on standard error]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(explain)
_arguments "${_arguments_options[@]}" : \
'--from=[Who connects\: a pod of this node]:POD|ADDRESS:_default' \
'--to=[The address and port that are dialled; IPv6 in brackets]:ADDRESS:PORT:_default' \
'--family=[The family of the socket \[default\: the address'\''\]]:FAMILY:((4\:"An IPv4 socket"
6\:"An IPv6 socket; it dials IPv4 addresses as v4-mapped"))' \
'--protocol=[Its protocol]:PROTOCOL:((tcp\:"Steered"
udp\:"Passes"))' \
'--bind=[The address that the socket is bound to before it dials]:IP:_default' \
'-o+[How to write it]:OUTPUT:((table\:"For people"
json\:"For scripts"))' \
'--output=[How to write it]:OUTPUT:((table\:"For people"
json\:"For scripts"))' \
'--bpf-root=[Kmesh'\''s directory on a BPF file system]:BPF_ROOT:_files' \
'--cgroup=[The cgroup whose connections are governed \[default\: the root of the cgroup2 hierarchy\]]:CGROUP:_files' \
'--state-dir=[What Kmesh keeps over a reboot]:STATE_DIR:_files' \
'--run-dir=[What Kmesh keeps while it runs]:RUN_DIR:_files' \
'--color=[Colours\: \`auto\` means on a terminal, unless \`NO_COLOR\` is set]:WHEN:((auto\:"On a terminal"
always\:"Always"
never\:"Never"))' \
'--v6only[The socket has IPV6_V6ONLY]' \
'-v[Say more on standard error]' \
'--verbose[Say more on standard error]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(completions)
_arguments "${_arguments_options[@]}" : \
'--bpf-root=[Kmesh'\''s directory on a BPF file system]:BPF_ROOT:_files' \
'--cgroup=[The cgroup whose connections are governed \[default\: the root of the cgroup2 hierarchy\]]:CGROUP:_files' \
'--state-dir=[What Kmesh keeps over a reboot]:STATE_DIR:_files' \
'--run-dir=[What Kmesh keeps while it runs]:RUN_DIR:_files' \
'--color=[Colours\: \`auto\` means on a terminal, unless \`NO_COLOR\` is set]:WHEN:((auto\:"On a terminal"
always\:"Always"
never\:"Never"))' \
'-v[Say more on standard error]' \
'--verbose[Say more on standard error]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':shell -- The shell:((bash\:"GNU Bash"
zsh\:"Zsh"
fish\:"Fish"))' \
&& ret=0
;;
(man)
_arguments "${_arguments_options[@]}" : \
'--bpf-root=[Kmesh'\''s directory on a BPF file system]:BPF_ROOT:_files' \
'--cgroup=[The cgroup whose connections are governed \[default\: the root of the cgroup2 hierarchy\]]:CGROUP:_files' \
'--state-dir=[What Kmesh keeps over a reboot]:STATE_DIR:_files' \
'--run-dir=[What Kmesh keeps while it runs]:RUN_DIR:_files' \
'--color=[Colours\: \`auto\` means on a terminal, unless \`NO_COLOR\` is set]:WHEN:((auto\:"On a terminal"
always\:"Always"
never\:"Never"))' \
'-v[Say more on standard error]' \
'--verbose[Say more on standard error]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(help)
_arguments "${_arguments_options[@]}" : \
":: :_kmeshctl__subcmd__help_commands" \
"*::: :->help" \
&& ret=0

    case $state in
    (help)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:kmeshctl-help-command-$line[1]:"
        case $line[1] in
            (dump)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(restore)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(status)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(verify)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(purge)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(explain)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(completions)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(man)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(help)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
        esac
    ;;
esac
;;
        esac
    ;;
esac
}

(( $+functions[_kmeshctl_commands] )) ||
_kmeshctl_commands() {
    local commands; commands=(
'dump:Show what is in the kernel, by name; \`dump all -o json\` is a snapshot that restore takes' \
'restore:Make the kernel'\''s tables say what a snapshot says' \
'status:Show on one screen how the daemon, the kernel'\''s part and the pods are' \
'verify:Check pins, links, programs, tables and pods, and the tables against a snapshot' \
'purge:Remove everything of Kmesh from this node'\''s kernel and disk, and prove it' \
'explain:Say what the kernel would do with a connection now, step by step' \
'completions:Write a completion script for a shell' \
'man:Write the manual page' \
'help:Print this message or the help of the given subcommand(s)' \
    )
    _describe -t commands 'kmeshctl commands' commands "$@"
}
(( $+functions[_kmeshctl__subcmd__completions_commands] )) ||
_kmeshctl__subcmd__completions_commands() {
    local commands; commands=()
    _describe -t commands 'kmeshctl completions commands' commands "$@"
}
(( $+functions[_kmeshctl__subcmd__dump_commands] )) ||
_kmeshctl__subcmd__dump_commands() {
    local commands; commands=()
    _describe -t commands 'kmeshctl dump commands' commands "$@"
}
(( $+functions[_kmeshctl__subcmd__explain_commands] )) ||
_kmeshctl__subcmd__explain_commands() {
    local commands; commands=()
    _describe -t commands 'kmeshctl explain commands' commands "$@"
}
(( $+functions[_kmeshctl__subcmd__help_commands] )) ||
_kmeshctl__subcmd__help_commands() {
    local commands; commands=(
'dump:Show what is in the kernel, by name; \`dump all -o json\` is a snapshot that restore takes' \
'restore:Make the kernel'\''s tables say what a snapshot says' \
'status:Show on one screen how the daemon, the kernel'\''s part and the pods are' \
'verify:Check pins, links, programs, tables and pods, and the tables against a snapshot' \
'purge:Remove everything of Kmesh from this node'\''s kernel and disk, and prove it' \
'explain:Say what the kernel would do with a connection now, step by step' \
'completions:Write a completion script for a shell' \
'man:Write the manual page' \
'help:Print this message or the help of the given subcommand(s)' \
    )
    _describe -t commands 'kmeshctl help commands' commands "$@"
}
(( $+functions[_kmeshctl__subcmd__help__subcmd__completions_commands] )) ||
_kmeshctl__subcmd__help__subcmd__completions_commands() {
    local commands; commands=()
    _describe -t commands 'kmeshctl help completions commands' commands "$@"
}
(( $+functions[_kmeshctl__subcmd__help__subcmd__dump_commands] )) ||
_kmeshctl__subcmd__help__subcmd__dump_commands() {
    local commands; commands=()
    _describe -t commands 'kmeshctl help dump commands' commands "$@"
}
(( $+functions[_kmeshctl__subcmd__help__subcmd__explain_commands] )) ||
_kmeshctl__subcmd__help__subcmd__explain_commands() {
    local commands; commands=()
    _describe -t commands 'kmeshctl help explain commands' commands "$@"
}
(( $+functions[_kmeshctl__subcmd__help__subcmd__help_commands] )) ||
_kmeshctl__subcmd__help__subcmd__help_commands() {
    local commands; commands=()
    _describe -t commands 'kmeshctl help help commands' commands "$@"
}
(( $+functions[_kmeshctl__subcmd__help__subcmd__man_commands] )) ||
_kmeshctl__subcmd__help__subcmd__man_commands() {
    local commands; commands=()
    _describe -t commands 'kmeshctl help man commands' commands "$@"
}
(( $+functions[_kmeshctl__subcmd__help__subcmd__purge_commands] )) ||
_kmeshctl__subcmd__help__subcmd__purge_commands() {
    local commands; commands=()
    _describe -t commands 'kmeshctl help purge commands' commands "$@"
}
(( $+functions[_kmeshctl__subcmd__help__subcmd__restore_commands] )) ||
_kmeshctl__subcmd__help__subcmd__restore_commands() {
    local commands; commands=()
    _describe -t commands 'kmeshctl help restore commands' commands "$@"
}
(( $+functions[_kmeshctl__subcmd__help__subcmd__status_commands] )) ||
_kmeshctl__subcmd__help__subcmd__status_commands() {
    local commands; commands=()
    _describe -t commands 'kmeshctl help status commands' commands "$@"
}
(( $+functions[_kmeshctl__subcmd__help__subcmd__verify_commands] )) ||
_kmeshctl__subcmd__help__subcmd__verify_commands() {
    local commands; commands=()
    _describe -t commands 'kmeshctl help verify commands' commands "$@"
}
(( $+functions[_kmeshctl__subcmd__man_commands] )) ||
_kmeshctl__subcmd__man_commands() {
    local commands; commands=()
    _describe -t commands 'kmeshctl man commands' commands "$@"
}
(( $+functions[_kmeshctl__subcmd__purge_commands] )) ||
_kmeshctl__subcmd__purge_commands() {
    local commands; commands=()
    _describe -t commands 'kmeshctl purge commands' commands "$@"
}
(( $+functions[_kmeshctl__subcmd__restore_commands] )) ||
_kmeshctl__subcmd__restore_commands() {
    local commands; commands=()
    _describe -t commands 'kmeshctl restore commands' commands "$@"
}
(( $+functions[_kmeshctl__subcmd__status_commands] )) ||
_kmeshctl__subcmd__status_commands() {
    local commands; commands=()
    _describe -t commands 'kmeshctl status commands' commands "$@"
}
(( $+functions[_kmeshctl__subcmd__verify_commands] )) ||
_kmeshctl__subcmd__verify_commands() {
    local commands; commands=()
    _describe -t commands 'kmeshctl verify commands' commands "$@"
}

if [ "$funcstack[1]" = "_kmeshctl" ]; then
    _kmeshctl "$@"
else
    compdef _kmeshctl kmeshctl
fi
