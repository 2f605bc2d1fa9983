//! Damaged and hostile snapshots: valid JSON and YAML with bytes flipped, cut and doubled, tokens
//! swapped, numbers enlarged, lists nested, aliases.
//!
//! Whatever the text: reading it does not panic and takes no more memory than its length allows,
//! a refusal names the file, and what is accepted is what the tables say after it is written, with
//! nothing to find and nothing to write the second time. `KMESH_FUZZ_CASES` says how many texts.

use std::cell::Cell;
use std::error::Error;

use kmesh_bpf::apply::{ApplyError, converge};
use kmesh_bpf::check::{Finding, check};
use kmesh_bpf::layout::Limits;
use kmesh_bpf::memory::MemoryKernel;
use kmesh_bpf::plan::PlanError;
use kmesh_bpf::snapshot::{About, Snapshot};
use kmesh_bpf::tables::Have;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

#[global_allocator]
static COUNTING: dhat::Alloc = dhat::Alloc;

/// The file, as errors name it.
const ORIGIN: &str = "the-file.yaml";
/// What reading a file may take: its buffers, and so much for each byte.
const BUFFERS: usize = 1 << 20;
const EACH_BYTE: usize = 200;
/// No text grows beyond this.
const LONGEST: usize = 64 << 10;

const HAND: &str = r#"
schemaVersion: 1
node: node1
bootId: 2b1c
settings: {metadata: proxy-v2, peername: true, exemptPorts: [25, 3306]}
services:
  - {name: ns/web, port: 80, family: ipv4, kind: service, vips: [10.96.0.1, 10.96.0.2], synced: true,
     endpoints: [{workload: a, port: 8080, family: ipv4}, {workload: b, port: 8081, family: ipv4}]}
  - {name: ns/web, port: 80, family: ipv6, kind: service, vips: ["fd96::1"], synced: false,
     mode: strict, endpoints: [{workload: a, port: 8080, family: ipv6}]}
  - {name: ns/way, port: 15019, family: ipv4, kind: waypoint, synced: true,
     endpoints: [{workload: b, port: 15019, family: ipv4}]}
  - {name: ns/way, port: 15019, family: ipv6, kind: waypoint, synced: true,
     endpoints: [{workload: b, port: 15019, family: ipv4}]}
  - {name: ns/cart, port: 443, family: ipv4, kind: service, vips: [10.96.0.3], synced: true,
     mode: failover, waypoint: {name: ns/way, port: 15019}}
workloads:
  - {uid: a, v4: 10.0.0.1, v6: "fd00::1", addresses: [10.0.0.1, "fd00::1"], identity: td/ns/n/sa/a,
     waypoint: {name: ns/way, port: 15019}}
  - {uid: b, v4: 10.0.0.2, addresses: [10.0.0.2], isWaypoint: true, policies: [n/deny, n/way]}
  - {uid: c, v4: 10.0.0.9}
policies:
  - {name: deny, namespace: n, scope: WorkloadSelector, action: Deny, rules: [[[
     {sourceIps: [10.0.0.0/8, 192.0.2.1], notDestinationPorts: [80, 443]}, {principals: [Presence]}]]]}
  - {name: allow, namespace: n, scope: Namespace, action: Allow, dryRun: true, rules: [[[]],
     [[{namespaces: [{Prefix: a}], serviceAccounts: [{namespace: a, serviceAccount: b}]}]]]}
pods:
  - {cookie: 4097, uid: a, netns: /proc/7/ns/net, mode: managed}
  - {cookie: 4098, mode: bypass}
"#;

/// Numbers that may be right, and such that are too large, too small or none.
const NUMBERS: [&str; 14] = [
    "1",
    "443",
    "8082",
    "25",
    "0",
    "-1",
    "65535",
    "65536",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "1e308",
    "0x10",
    "00000000000000000000000000000001",
];
/// Pieces that mean something to one of the two languages or to the schema.
const PIECES: [&str; 16] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "'",
    "\n- ",
    "\n  ",
    "null",
    "~",
    "<<: *x",
    "!!str ",
    "\0",
    "\"schemaVersion\": 1, ",
];

/// How a text is damaged; numbers say where, as shares of its length.
#[derive(Clone, Debug)]
enum Damage {
    Flip(u32, u8),
    Cut(u32, u32),
    Double(u32, u32, u8),
    Swap(u32, u32),
    SwapAlike(u32, u32),
    Number(u32, usize),
    Nest(u32, u16, bool),
    Alias(u32, u32),
    Insert(u32, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<u32>;
    let swap = (at(), at()).prop_map(|(one, other)| Damage::Swap(one, other));
    let alike = (at(), at()).prop_map(|(one, other)| Damage::SwapAlike(one, other));
    let number = (at(), 0..NUMBERS.len()).prop_map(|(at, number)| Damage::Number(at, number));
    let double = (at(), 1..400_u32, 1..100_u8);
    let nest = (at(), 1..5_000_u16, any::<bool>());
    prop_oneof![
        2 => swap,
        5 => alike,
        3 => number,
        1 => (at(), 0..8_u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        1 => (at(), 1..40_u32).prop_map(|(at, length)| Damage::Cut(at, length)),
        1 => double.prop_map(|(at, length, times)| Damage::Double(at, length, times)),
        1 => nest.prop_map(|(at, deep, map)| Damage::Nest(at, deep, map)),
        1 => (at(), at()).prop_map(|(anchor, alias)| Damage::Alias(anchor, alias)),
        1 => (at(), 0..PIECES.len()).prop_map(|(at, piece)| Damage::Insert(at, piece)),
    ]
}

fn place(at: u32, length: usize) -> usize {
    usize::try_from((u64::from(at) * length as u64) >> 32).expect("a place in the text")
}

/// The words of a text: where each begins and ends.
fn words(text: &[u8], is_word: impl Fn(u8) -> bool) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut begin = None;
    for (at, byte) in text.iter().chain([&b' ']).enumerate() {
        match begin {
            None if is_word(*byte) => begin = Some(at),
            Some(from) if !is_word(*byte) => {
                found.push((from, at));
                begin = None;
            }
            _ => {}
        }
    }
    found
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"./-".contains(&byte)
}

fn one_of(words: &[(usize, usize)], at: u32) -> Option<(usize, usize)> {
    words.get(place(at, words.len())).copied()
}

fn apply_damage(text: &mut Vec<u8>, damage: &Damage) {
    let length = text.len();
    match *damage {
        Damage::Flip(at, bit) => {
            if let Some(byte) = text.get_mut(place(at, length)) {
                *byte ^= 1 << bit;
            }
        }
        Damage::Cut(at, many) => {
            let from = place(at, length);
            text.drain(from..length.min(from + many as usize));
        }
        Damage::Double(at, many, times) => {
            let from = place(at, length);
            let piece = text[from..length.min(from + many as usize)].repeat(times.into());
            text.splice(from..from, piece);
        }
        Damage::Swap(one, other) => swap(text, one, other, false),
        Damage::SwapAlike(one, other) => swap(text, one, other, true),
        Damage::Number(at, number) => {
            if let Some((from, to)) = one_of(&words(text, |byte| byte.is_ascii_digit()), at) {
                text.splice(from..to, NUMBERS[number].bytes());
            }
        }
        Damage::Nest(at, deep, map) => {
            let from = place(at, length);
            let open = if map { "{\"a\": " } else { "[" }.repeat(deep.into());
            text.splice(from..from, open.bytes());
        }
        Damage::Alias(anchor, alias) => {
            let tokens = words(text, is_token);
            let (Some(one), Some(other)) = (one_of(&tokens, anchor), one_of(&tokens, alias)) else {
                return;
            };
            let (first, last) = (one.min(other), one.max(other));
            if first != last {
                text.splice(last.0..last.1, *b"*x");
                text.splice(first.0..first.0, *b"&x ");
            }
        }
        Damage::Insert(at, piece) => {
            let from = place(at, length);
            text.splice(from..from, PIECES[piece].bytes());
        }
    }
    text.truncate(LONGEST);
}

/// What kind of a word it is: a number, an address, another.
fn kind(word: &[u8]) -> (bool, usize) {
    (word.iter().all(u8::is_ascii_digit), word.split(|byte| *byte == b'.').count())
}

/// Exchanges two words; `alike`: of one kind.
fn swap(text: &mut Vec<u8>, one: u32, other: u32, alike: bool) {
    let mut tokens = words(text, is_token);
    if alike {
        tokens.retain(|token| kind(&text[token.0..token.1]) != (false, 1));
    }
    let Some(one) = one_of(&tokens, one) else { return };
    if alike {
        tokens.retain(|token| kind(&text[token.0..token.1]) == kind(&text[one.0..one.1]));
    }
    let Some(other) = one_of(&tokens, other) else { return };
    let (first, last) = (one.min(other), one.max(other));
    if first == last {
        return;
    }
    let (left, right) = (text[first.0..first.1].to_vec(), text[last.0..last.1].to_vec());
    text.splice(last.0..last.1, left);
    text.splice(first.0..first.1, right);
}

/// Valid texts: by hand, as JSON and as YAML, the latter two with and without a checksum.
fn corpus() -> Vec<Vec<u8>> {
    let snapshot = Snapshot::parse(HAND.as_bytes(), ORIGIN).expect("valid");
    let (mut json, mut yaml) = (Vec::new(), Vec::new());
    snapshot.write_json(&mut json).expect("to memory");
    snapshot.write_yaml(&mut yaml).expect("to memory");
    let without = |text: &[u8]| {
        let lines = text.split_inclusive(|byte| *byte == b'\n');
        lines
            .filter(|line| !line.windows(8).any(|part| part == b"checksum"))
            .flatten()
            .copied()
            .collect()
    };
    let bare: Vec<Vec<u8>> = vec![without(&json), without(&yaml), HAND.into()];
    for text in &bare {
        Snapshot::parse(text, ORIGIN).expect("valid without a checksum");
    }
    [bare.clone(), bare, vec![json, yaml]].concat()
}

/// Reads it; fails when that takes more memory than its length allows.
fn parse(text: &[u8]) -> Result<Result<Snapshot, String>, TestCaseError> {
    let counting = dhat::Profiler::builder().testing().build();
    let parsed = Snapshot::parse(text, ORIGIN);
    let peak = dhat::HeapStats::get().max_bytes;
    drop(counting);
    let allowed = BUFFERS + EACH_BYTE * text.len();
    prop_assert!(peak <= allowed, "{peak} bytes of memory for {} of text", text.len());
    Ok(parsed.map_err(|error| {
        let mut said = error.to_string();
        let mut cause = error.source();
        while let Some(source) = cause {
            said = format!("{said}: {source}");
            cause = source.source();
        }
        said
    }))
}

/// What was accepted is what the tables say after it is written; or it does not fit, and the map
/// is named.
fn converges(snapshot: Snapshot) -> Result<(), TestCaseError> {
    let limits = Limits {
        frontends: 64,
        services: 16,
        endpoints: 128,
        workloads: 16,
        names: 64,
        pods: 8,
        sockets: 8,
        policy_chunks: 8,
        connections: 64,
        policies: 16,
        policy_sets: 8,
        policy_words: 8,
    };
    let mut kernel = MemoryKernel::with_tables(&limits);
    let mut have = Have::read_locked(&kernel).expect("read");
    let change = snapshot.into_change();
    match converge(&mut kernel, &mut have, &change, &mut |_, _| {}) {
        Ok(_) => {}
        Err(ApplyError::Plan(PlanError::Full { .. })) => return Ok(()),
        Err(error) => return Err(TestCaseError::fail(format!("accepted, then: {error:?}"))),
    }
    let fresh = Have::read_locked(&kernel).expect("read");
    let says = Snapshot::of(&fresh, About::default(), None);
    let mut wanted = Snapshot::of_change(&change, About::default());
    // A text that says nothing of policies leaves these tables without any.
    wanted.policies.get_or_insert_default();
    prop_assert_eq!(says, wanted);
    // Two workloads at one address: the tables hold it, and it is found.
    let known =
        |one: &Finding| one.layer == "capacity" || one.problem.starts_with("duplicate address");
    let found: Vec<_> = check(&fresh).into_iter().filter(|one| !known(one)).collect();
    prop_assert!(found.is_empty(), "{found:?}");
    let again = converge(&mut kernel, &mut have, &change, &mut |_, _| {}).expect("again");
    prop_assert_eq!(again.elements, 0);
    Ok(())
}

#[test]
fn damaged_snapshots_are_refused_by_name_or_mean_what_they_say() {
    let asked = std::env::var("KMESH_FUZZ_CASES").ok().and_then(|text| text.parse().ok());
    let cases: u32 = asked.unwrap_or(256);
    let corpus = corpus();
    let (refused, accepted) = (Cell::new(0_u32), Cell::new(0_u32));
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    // The short version is the same each time.
    let mut runner = if asked.is_some() {
        TestRunner::new(config)
    } else {
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
    };
    let texts = (0..corpus.len(), vec(damage(), 1..3));
    let ran = runner.run(&texts, |(which, damages)| {
        let mut text = corpus[which].clone();
        for damage in &damages {
            apply_damage(&mut text, damage);
        }
        match parse(&text)? {
            Err(said) => {
                prop_assert!(said.contains(ORIGIN), "{said}");
                refused.set(refused.get() + 1);
            }
            Ok(snapshot) => {
                converges(snapshot)?;
                accepted.set(accepted.get() + 1);
            }
        }
        Ok(())
    });
    ran.unwrap_or_else(|failed| panic!("{failed}"));
    let (refused, accepted) = (refused.get(), accepted.get());
    assert!(refused > cases / 8 && accepted > cases / 64, "{refused} refused, {accepted} accepted");
    println!(
        "{refused} refused by name, {accepted} restored to what they say: {} of {cases}",
        refused + accepted
    );
}
