//! The binary as an operator meets it, without any kernel object: help, errors, exit status,
//! pipes. What needs the kernel is in `tests/bats/{cli,dump,restore,verify,purge}.bats`.

#![forbid(unsafe_code)]

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output, Stdio};

fn kmeshctl(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kmeshctl"));
    command.args(args).stdin(Stdio::null());
    for name in ["KMESH_BPF_ROOT", "KMESH_CGROUP", "KMESH_STATE_DIR", "KMESH_RUN_DIR"] {
        command.env_remove(name);
    }
    command
}

fn run(args: &[&str]) -> Output {
    kmeshctl(args).output().expect("kmeshctl starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("kmeshctl speaks UTF-8")
}

#[test]
fn every_verb_explains_itself_with_examples() {
    for verb in ["dump", "restore", "verify", "explain", "purge", "completions"] {
        let output = run(&[verb, "--help"]);
        assert!(output.status.success(), "{verb}");
        let help = text(&output.stdout);
        assert!(help.contains("Examples:\n"), "{verb}: {help}");
        assert!(help.contains(&format!("kmeshctl {verb}")), "{verb}: {help}");
        assert!(help.contains("--bpf-root"), "{verb}: {help}");
    }
}

#[test]
fn what_cannot_be_understood_exits_2_and_says_so_on_stderr() {
    for args in [
        &["dmup"][..],
        &["dump", "--outptu", "json"],
        &["dump", "maps", "-o", "xml"],
        &["restore"],
        &["purge", "--yes", "--dry-run"],
        &["dump", "maps", "kmesh_sevice"],
        &["dump", "programs", "kmesh_service"],
        &["dump", "all", "kmesh_service"],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}: {}", text(&output.stdout));
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn a_misspelt_map_is_answered_with_those_that_exist() {
    let output = run(&["dump", "maps", "kmesh_sevice"]);
    let said = text(&output.stderr);
    assert!(said.contains("\"kmesh_sevice\" is no map of Kmesh"), "{said}");
    assert!(said.contains("kmesh_service"), "{said}");
}

#[test]
fn another_user_is_told_to_be_root() {
    if !rustix::process::geteuid().is_root() {
        return must_be_root(&run(&["verify"]));
    }
    // The binary may lie where that user cannot go.
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("kmeshctl");
    std::fs::copy(env!("CARGO_BIN_EXE_kmeshctl"), &path).expect("a copy");
    open_to_all(dir.path());
    open_to_all(&path);
    let output = Command::new(&path).arg("verify").uid(65534).gid(65534).output();
    must_be_root(&output.expect("kmeshctl starts"));
}

fn open_to_all(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("permissions");
}

fn must_be_root(output: &Output) {
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("must run as root") && said.contains("sudo"), "{said}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = kmeshctl(&["man"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kmeshctl starts");
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("stderr");
    assert!(child.wait().expect("it ends").success(), "{said}");
    assert_eq!(said, "");
}

#[test]
fn off_a_terminal_there_are_no_colours_but_when_asked_for() {
    assert!(!text(&run(&["--help"]).stdout).contains('\x1b'));
    assert!(!text(&run(&["man"]).stdout).contains('\x1b'));
}

/// What a shell would offer after these words.
fn offered(shell: &str, words: &[&str]) -> String {
    let last = (words.len() - 1).to_string();
    let mut command = kmeshctl(&["--"]);
    command.args(words).env("COMPLETE", shell).env("_CLAP_COMPLETE_INDEX", last);
    text(&command.env("_CLAP_IFS", "\n").output().expect("kmeshctl starts").stdout)
}

#[test]
fn completions_know_every_verb_flag_and_map() {
    for shell in ["bash", "zsh", "fish"] {
        let verbs = offered(shell, &["kmeshctl", ""]);
        for verb in ["dump", "restore", "verify", "purge", "completions", "man"] {
            assert!(verbs.contains(verb), "{shell}: {verb}: {verbs}");
        }
        let maps = offered(shell, &["kmeshctl", "dump", "maps", "kmesh_s"]);
        assert!(maps.contains("kmesh_service") && maps.contains("kmesh_stats"), "{shell}: {maps}");
        assert!(!maps.contains("map_of_manager"), "{shell}: {maps}");
        let hooks = offered(shell, &["kmeshctl", "dump", "links", "sock"]);
        assert_eq!(hooks.trim(), "sockops", "{shell}");
        let flags = offered(shell, &["kmeshctl", "purge", "--s"]);
        assert!(flags.contains("--stop-daemon"), "{shell}: {flags}");
    }
}

#[test]
fn completion_scripts_are_accepted_by_their_shell() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("script");
    std::fs::write(&path, &run(&["completions", "bash"]).stdout).expect("written");
    let mut bash = Command::new("bash");
    bash.args(["-c", ". \"$1\" && complete -p kmeshctl", "bash"]).arg(&path);
    let output = bash.output().expect("bash starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
}
