# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_kmeshctl_global_optspecs
    string join \n bpf-root= cgroup= state-dir= run-dir= v/verbose color= h/help V/version
end

function __fish_kmeshctl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_kmeshctl_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_kmeshctl_using_subcommand
    set -l cmd (__fish_kmeshctl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c kmeshctl -n "__fish_kmeshctl_needs_command" -l bpf-root -d 'Kmesh\'s directory on a BPF file system' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_needs_command" -l cgroup -d 'The cgroup whose connections are governed [default: the root of the cgroup2 hierarchy]' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_needs_command" -l state-dir -d 'What Kmesh keeps over a reboot' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_needs_command" -l run-dir -d 'What Kmesh keeps while it runs' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_needs_command" -l color -d 'Colours: `auto` means on a terminal, unless `NO_COLOR` is set' -r -f -a "auto\t'On a terminal'
always\t'Always'
never\t'Never'"
complete -c kmeshctl -n "__fish_kmeshctl_needs_command" -s v -l verbose -d 'Say more on standard error'
complete -c kmeshctl -n "__fish_kmeshctl_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kmeshctl -n "__fish_kmeshctl_needs_command" -s V -l version -d 'Print version'
complete -c kmeshctl -n "__fish_kmeshctl_needs_command" -f -a "dump" -d 'Show what is in the kernel, by name; `dump all -o json` is a snapshot that restore takes'
complete -c kmeshctl -n "__fish_kmeshctl_needs_command" -f -a "restore" -d 'Make the kernel\'s tables say what a snapshot says'
complete -c kmeshctl -n "__fish_kmeshctl_needs_command" -f -a "status" -d 'Show on one screen how the daemon, the kernel\'s part and the pods are'
complete -c kmeshctl -n "__fish_kmeshctl_needs_command" -f -a "verify" -d 'Check pins, links, programs, tables and pods, and the tables against a snapshot'
complete -c kmeshctl -n "__fish_kmeshctl_needs_command" -f -a "purge" -d 'Remove everything of Kmesh from this node\'s kernel and disk, and prove it'
complete -c kmeshctl -n "__fish_kmeshctl_needs_command" -f -a "explain" -d 'Say what the kernel would do with a connection now, step by step'
complete -c kmeshctl -n "__fish_kmeshctl_needs_command" -f -a "completions" -d 'Write a completion script for a shell'
complete -c kmeshctl -n "__fish_kmeshctl_needs_command" -f -a "man" -d 'Write the manual page'
complete -c kmeshctl -n "__fish_kmeshctl_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand dump" -s o -l output -d 'How to write it' -r -f -a "table\t'For people'
wide\t'For people with wide screens'
json\t'For scripts'
yaml\t'For both'"
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand dump" -l service -d 'Only this service: namespace/host, or namespace/ for all of it' -r
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand dump" -l workload -d 'Only this workload: its uid, or namespace/name' -r
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand dump" -l pod -d 'Only this pod: its uid, namespace/name, or netns cookie' -r
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand dump" -l address -d 'Only what has this address: a VIP, or a workload\'s' -r
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand dump" -l bpf-root -d 'Kmesh\'s directory on a BPF file system' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand dump" -l cgroup -d 'The cgroup whose connections are governed [default: the root of the cgroup2 hierarchy]' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand dump" -l state-dir -d 'What Kmesh keeps over a reboot' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand dump" -l run-dir -d 'What Kmesh keeps while it runs' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand dump" -l color -d 'Colours: `auto` means on a terminal, unless `NO_COLOR` is set' -r -f -a "auto\t'On a terminal'
always\t'Always'
never\t'Never'"
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand dump" -l raw -d 'Keys and values in hex, of any layout; all-zero elements of arrays are left out'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand dump" -s v -l verbose -d 'Say more on standard error'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand dump" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand restore" -s o -l output -d 'How --dry-run is shown' -r -f -a "table\t'One line each'
json\t'For scripts'"
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand restore" -l only -d 'Only these parts: settings, services, workloads, pods, service=NAME, workload=UID' -r
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand restore" -l bpf-root -d 'Kmesh\'s directory on a BPF file system' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand restore" -l cgroup -d 'The cgroup whose connections are governed [default: the root of the cgroup2 hierarchy]' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand restore" -l state-dir -d 'What Kmesh keeps over a reboot' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand restore" -l run-dir -d 'What Kmesh keeps while it runs' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand restore" -l color -d 'Colours: `auto` means on a terminal, unless `NO_COLOR` is set' -r -f -a "auto\t'On a terminal'
always\t'Always'
never\t'Never'"
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand restore" -l dry-run -d 'Show what would change, and change nothing'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand restore" -l any-node -d 'Also a snapshot of another node'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand restore" -s v -l verbose -d 'Say more on standard error'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand restore" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand status" -s o -l output -d 'How to write it' -r -f -a "table\t'One screen'
json\t'For scripts; with `--watch`, one line each'"
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand status" -s w -l watch -d 'Again and again, every so many seconds' -r
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand status" -l bpf-root -d 'Kmesh\'s directory on a BPF file system' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand status" -l cgroup -d 'The cgroup whose connections are governed [default: the root of the cgroup2 hierarchy]' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand status" -l state-dir -d 'What Kmesh keeps over a reboot' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand status" -l run-dir -d 'What Kmesh keeps while it runs' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand status" -l color -d 'Colours: `auto` means on a terminal, unless `NO_COLOR` is set' -r -f -a "auto\t'On a terminal'
always\t'Always'
never\t'Never'"
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand status" -s v -l verbose -d 'Say more on standard error'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand verify" -l against -d 'Compare the tables with this snapshot, too; `-` is standard input, `daemon` what the running daemon wants' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand verify" -s o -l output -d 'How to write it' -r -f -a "table\t'One line each'
json\t'For scripts'"
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand verify" -l bpf-root -d 'Kmesh\'s directory on a BPF file system' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand verify" -l cgroup -d 'The cgroup whose connections are governed [default: the root of the cgroup2 hierarchy]' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand verify" -l state-dir -d 'What Kmesh keeps over a reboot' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand verify" -l run-dir -d 'What Kmesh keeps while it runs' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand verify" -l color -d 'Colours: `auto` means on a terminal, unless `NO_COLOR` is set' -r -f -a "auto\t'On a terminal'
always\t'Always'
never\t'Never'"
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand verify" -s v -l verbose -d 'Say more on standard error'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand purge" -l bpf-root -d 'Kmesh\'s directory on a BPF file system' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand purge" -l cgroup -d 'The cgroup whose connections are governed [default: the root of the cgroup2 hierarchy]' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand purge" -l state-dir -d 'What Kmesh keeps over a reboot' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand purge" -l run-dir -d 'What Kmesh keeps while it runs' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand purge" -l color -d 'Colours: `auto` means on a terminal, unless `NO_COLOR` is set' -r -f -a "auto\t'On a terminal'
always\t'Always'
never\t'Never'"
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand purge" -s y -l yes -d 'Do not ask'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand purge" -l dry-run -d 'Show what would go, and remove nothing'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand purge" -l stop-daemon -d 'End a daemon that is running (SIGTERM), and wait for its end'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand purge" -s v -l verbose -d 'Say more on standard error'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand purge" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand explain" -l from -d 'Who connects: a pod of this node' -r
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand explain" -l to -d 'The address and port that are dialled; IPv6 in brackets' -r
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand explain" -l family -d 'The family of the socket [default: the address\']' -r -f -a "4\t'An IPv4 socket'
6\t'An IPv6 socket; it dials IPv4 addresses as v4-mapped'"
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand explain" -l protocol -d 'Its protocol' -r -f -a "tcp\t'Steered'
udp\t'Passes'"
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand explain" -l bind -d 'The address that the socket is bound to before it dials' -r
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand explain" -s o -l output -d 'How to write it' -r -f -a "table\t'For people'
json\t'For scripts'"
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand explain" -l bpf-root -d 'Kmesh\'s directory on a BPF file system' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand explain" -l cgroup -d 'The cgroup whose connections are governed [default: the root of the cgroup2 hierarchy]' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand explain" -l state-dir -d 'What Kmesh keeps over a reboot' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand explain" -l run-dir -d 'What Kmesh keeps while it runs' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand explain" -l color -d 'Colours: `auto` means on a terminal, unless `NO_COLOR` is set' -r -f -a "auto\t'On a terminal'
always\t'Always'
never\t'Never'"
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand explain" -l v6only -d 'The socket has IPV6_V6ONLY'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand explain" -s v -l verbose -d 'Say more on standard error'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand explain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand completions" -l bpf-root -d 'Kmesh\'s directory on a BPF file system' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand completions" -l cgroup -d 'The cgroup whose connections are governed [default: the root of the cgroup2 hierarchy]' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand completions" -l state-dir -d 'What Kmesh keeps over a reboot' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand completions" -l run-dir -d 'What Kmesh keeps while it runs' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand completions" -l color -d 'Colours: `auto` means on a terminal, unless `NO_COLOR` is set' -r -f -a "auto\t'On a terminal'
always\t'Always'
never\t'Never'"
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand completions" -s v -l verbose -d 'Say more on standard error'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand man" -l bpf-root -d 'Kmesh\'s directory on a BPF file system' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand man" -l cgroup -d 'The cgroup whose connections are governed [default: the root of the cgroup2 hierarchy]' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand man" -l state-dir -d 'What Kmesh keeps over a reboot' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand man" -l run-dir -d 'What Kmesh keeps while it runs' -r -F
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand man" -l color -d 'Colours: `auto` means on a terminal, unless `NO_COLOR` is set' -r -f -a "auto\t'On a terminal'
always\t'Always'
never\t'Never'"
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand man" -s v -l verbose -d 'Say more on standard error'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand man" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand help; and not __fish_seen_subcommand_from dump restore status verify purge explain completions man help" -f -a "dump" -d 'Show what is in the kernel, by name; `dump all -o json` is a snapshot that restore takes'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand help; and not __fish_seen_subcommand_from dump restore status verify purge explain completions man help" -f -a "restore" -d 'Make the kernel\'s tables say what a snapshot says'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand help; and not __fish_seen_subcommand_from dump restore status verify purge explain completions man help" -f -a "status" -d 'Show on one screen how the daemon, the kernel\'s part and the pods are'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand help; and not __fish_seen_subcommand_from dump restore status verify purge explain completions man help" -f -a "verify" -d 'Check pins, links, programs, tables and pods, and the tables against a snapshot'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand help; and not __fish_seen_subcommand_from dump restore status verify purge explain completions man help" -f -a "purge" -d 'Remove everything of Kmesh from this node\'s kernel and disk, and prove it'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand help; and not __fish_seen_subcommand_from dump restore status verify purge explain completions man help" -f -a "explain" -d 'Say what the kernel would do with a connection now, step by step'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand help; and not __fish_seen_subcommand_from dump restore status verify purge explain completions man help" -f -a "completions" -d 'Write a completion script for a shell'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand help; and not __fish_seen_subcommand_from dump restore status verify purge explain completions man help" -f -a "man" -d 'Write the manual page'
complete -c kmeshctl -n "__fish_kmeshctl_using_subcommand help; and not __fish_seen_subcommand_from dump restore status verify purge explain completions man help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
