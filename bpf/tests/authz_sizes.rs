//! How large the tables of a set get: a promise, and a table for people
//! (`cargo test -p kmesh-bpf --test authz_sizes -- --nocapture`).

#[path = "authz/rules.rs"]
mod rules;

use std::time::Instant;

use kmesh_bpf::authz::{Identity, Image, Policy, compile};

/// Identities that the cluster has, at least.
const IDENTITIES: usize = 1000;

fn image(rules: usize, policies: &[Policy]) -> Image {
    let all: Vec<Identity> = (0..rules.max(IDENTITIES)).map(rules::identity).collect();
    let numbered = (1..).zip(&all);
    compile(policies, numbered).expect("it fits").image()
}

fn bytes(image: &Image) -> usize {
    8 * image.words.len() + 64 * image.bits.len()
}

/// Sizes of both kinds of sets, printed.
fn measure(rules: usize) -> [usize; 2] {
    let kinds = [("usual", rules::usual(rules)), ("distinct", rules::distinct(rules))];
    kinds.map(|(kind, policies)| {
        let start = Instant::now();
        let image = image(rules, &policies);
        let took = start.elapsed().as_millis();
        let (pairs, words, chunks) = (image.header.ends[7], image.words.len(), image.bits.len());
        let size = bytes(&image);
        println!(
            "{rules:>6} rules, {kind:<8} {:>6} bits {words:>7} words {chunks:>6} chunks {:>9} bytes, \
             compiled in {took} ms",
            u32::from(pairs) * 1024,
            size,
        );
        size
    })
}

#[test]
fn ten_rules_take_little() {
    let [usual, distinct] = measure(10);
    // mostly the word that each identity has
    assert!(usual < 16_000 && distinct < 16_000, "{usual} {distinct}");
}

#[test]
fn a_thousand_rules_take_a_hundred_bytes_each() {
    let [usual, distinct] = measure(1_000);
    assert!(usual < 50_000 && distinct < 150_000, "{usual} {distinct}");
}

#[test]
fn ten_thousand_rules_do_not_multiply() {
    let [usual, distinct] = measure(10_000);
    assert!(usual < 200_000 && distinct < 2_000_000, "{usual} {distinct}");
}

#[test]
fn ten_thousand_principals_of_one_policy_are_one_bit() {
    let mut policies = rules::usual(10_000);
    let groups = std::mem::take(&mut policies[0].groups);
    let from = groups.into_iter().filter_map(|group| group.into_iter().next()).flatten();
    policies[0].groups = vec![vec![from.collect()]];
    let image = image(10_000, &policies);
    assert_eq!(image.header.ends[7], 1);
    assert!(bytes(&image) < 120_000, "{}", bytes(&image));
}
