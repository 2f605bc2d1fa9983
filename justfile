# Every command of this repository. `./dev RECIPE` installs what is missing first; `just RECIPE`
# runs at once.

set shell := ["bash", "-euo", "pipefail", "-c"]

target := env("CARGO_TARGET_DIR", justfile_directory() / "target")

# The suites take the binaries from here.
export KMESH_BIN := env("KMESH_BIN", target / "debug")
export KMESH_LOGS := target / "test-logs"

# List the recipes.
default:
    @just --list --unsorted

# Build everything, for development.
build:
    cargo build --workspace --all-targets --locked

# Build the optimised binaries.
release:
    cargo build --workspace --release --locked

# Everything that must hold, with a count; goes on after a failure.
test:
    tests/all

# Format, lints, licences, scripts, C style, generated files.
lint: fmt-check clippy deny shellcheck clang-format completions-check

# Format the Rust and the C sources.
fmt:
    cargo fmt --all
    clang-format-19 -i bpf/prog/*.h bpf/prog/*.c

# Is the Rust formatted?
fmt-check:
    cargo fmt --all --check

# Lints, with warnings refused.
clippy:
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Dependencies: licences, sources, bans.
deny:
    cargo deny --locked --log-level error check --hide-inclusion-graph bans licenses sources

# Dependencies: known vulnerabilities. Needs the network, so it is no part of `test`.
advisories:
    cargo deny check advisories

# Lint every shell script (the generated completions are not ours to mend).
shellcheck:
    shellcheck --external-sources dev .ci/run tests/all tests/crash/run tests/kills/run tests/demo/demo tests/istiod/run $(git ls-files 'tests/*.bash' 'tests/*.bats' '*.sh')

# Is the C formatted?
clang-format:
    clang-format-19 --dry-run --Werror $(git ls-files 'bpf/prog/*.h' 'bpf/prog/*.c')

# Write the shell completions anew.
completions: build
    for shell in bash zsh fish; do "$KMESH_BIN/kmeshctl" completions "$shell" >"completions/kmeshctl.$shell"; done

# Write the reference of the command line anew.
cli-reference: build
    "$KMESH_BIN/kmeshctl" man -o markdown >docs/cli.md

# Are the committed completions those of today's kmeshctl?
completions-check: build
    for shell in bash zsh fish; do "$KMESH_BIN/kmeshctl" completions "$shell" | diff -u "completions/kmeshctl.$shell" -; done

# Unit and property tests; arguments go to cargo test.
unit *ARGS:
    cargo test --workspace --locked {{ ARGS }}

# The suites on the real kernel; needs root. SUITE is a file name without .bats.
bats SUITE="": build
    unshare --mount bats --timing tests/bats/{{ if SUITE == "" { "" } else { SUITE + ".bats" } }}

# A story on this machine: pods, a VIP, SIGKILL under traffic. Needs root.
demo: build
    unshare --mount tests/demo/demo

# What it costs: a table, and target/bench.json. Needs root and a quiet machine.
bench: release
    {{ target / "release" }}/kmesh-bench --output {{ target }}/bench.json

# Kill at every single mutating call of every operation, and converge: N of N. Needs root.
proof-crash: build
    unshare --mount tests/crash/run

# Many kills at random instants under the prober. Needs root.
proof-kills KILLS="200": build
    unshare --mount tests/kills/run {{ KILLS }}

# Damaged and hostile snapshots and responses: refused by name, or taken for exactly what they say. N of N.
proof-fuzz CASES="5000":
    KMESH_FUZZ_CASES={{ CASES }} cargo test --locked -p kmeshd --lib -- --nocapture one_damaged | grep -oE '[0-9]+ refused by name, .* [0-9]+ of [0-9]+$'
    KMESH_FUZZ_CASES={{ CASES }} cargo test --locked -p kmesh-bpf --test snapshot_fuzz -- --nocapture | grep -oE '[0-9]+ refused by name, .* [0-9]+ of [0-9]+$'

# Half a million workloads in one answer, with default limits: said, bounded, the rest served. Needs root.
proof-flood: release
    KMESH_BIN={{ target / "release" }} KMESH_FLOOD_SERVICES=20000 KMESH_FLOOD_LIMIT=65536 unshare --mount bats -f 'tables cannot hold' tests/bats/faults.bats

# A million connections that end in every way leave no note behind. Needs root.
proof-live CONNECTIONS="1000000":
    KMESH_LIVE_CONNECTIONS={{ CONNECTIONS }} cargo test --locked -p kmesh-bpf --test live_leak nothing_is_left -- --nocapture | grep -oE '[0-9]+ short connections, .* 0 left$'

# Istio's own control plane drives the daemon. Needs root, Go 1.26, the network and 4 GB of disk.
proof-istiod FILTER="": build
    tests/istiod/run {{ quote(FILTER) }}

# Remove everything that was built.
clean:
    cargo clean
