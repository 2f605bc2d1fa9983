//! Failing calls and dying writers.

use proptest::prelude::*;

use super::states::{dice, difference, state};
use super::{assert_safe, assert_says, bring, empty, rest};
use crate::apply::{ApplyError, apply, converge};
use crate::check::check;
use crate::kernel::{KernelError, Put, Tables as _};
use crate::layout::{BackendRecord, FrontendKey, Map, ServiceRecord};
use crate::memory::{Fault, MemoryKernel};
use crate::plan::plan;
use crate::snapshot::{About, Snapshot};
use crate::tables::{Consistency, Have};
use crate::want::Change;

fn at(a: &Change) -> (MemoryKernel, Have) {
    let (mut kernel, mut have) = empty();
    bring(&mut kernel, &mut have, a);
    (kernel, have)
}

fn fault(call: u64, elements: usize, for_good: bool) -> Fault {
    Fault { call, elements, errno: libc::EAGAIN, for_good }
}

/// A complete change that must reach `b`, after a writer died on the way.
fn recover(kernel: &mut MemoryKernel, a: &Change, b: &Change) {
    kernel.set_fault(None);
    assert_safe(kernel, a, b);
    let mut have = Have::read_locked(kernel).expect("read");
    let left = rest(&have, b);
    bring(kernel, &mut have, &left);
    assert_eq!(have.consistency(), Consistency::Settled);
    assert_says(kernel, &have, b);
    assert_eq!(bring(kernel, &mut have, b).elements, 0, "a second start writes");
}

/// Puts the value of one element of a map in the place of another.
fn overwrite(kernel: &mut MemoryKernel, map: usize, from: u8, to: u8) {
    let (map, key_size, size) = [
        (Map::Frontend, size_of::<FrontendKey>(), size_of::<u64>()),
        (Map::Service, 0, size_of::<ServiceRecord>()),
        (Map::Endpoint, 0, size_of::<u64>()),
        (Map::Backend, 0, size_of::<BackendRecord>()),
    ][map];
    let mut elements: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let end = if key_size == 0 { kernel.max_entries(map).expect("a limit") } else { 0 };
    kernel
        .scan(map, end, &mut |keys, values| {
            for (at, value) in values.chunks_exact(size).enumerate() {
                let index = u32::try_from(elements.len()).expect("few");
                let key = match key_size {
                    0 => index.to_ne_bytes().to_vec(),
                    size => keys[at * size..][..size].to_vec(),
                };
                elements.push((key, value.to_vec()));
            }
        })
        .expect("scan");
    elements.retain(|(_, value)| value.iter().any(|byte| *byte != 0));
    if elements.is_empty() {
        return;
    }
    let (key, _) = &elements[usize::from(to) % elements.len()];
    let (_, value) = &elements[usize::from(from) % elements.len()];
    kernel.update(map, key, value, Put::Any).expect("damage");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_failing_call_does_not_keep_it_from_converging(
        a in dice(), b in dice(), call in 1_u64..16, elements in 0_usize..12,
    ) {
        let (a, b) = (state(&a), state(&b));
        let (mut kernel, mut have) = at(&a);
        kernel.set_fault(Some(fault(call, elements, false)));
        bring(&mut kernel, &mut have, &difference(&a, &b));
        assert_says(&kernel, &have, &b);
    }

    #[test]
    fn what_a_foreign_hand_copied_elsewhere_is_mended(
        a in dice(), map in 0_usize..4, from in any::<u8>(), to in any::<u8>(),
    ) {
        let a = state(&a);
        let (mut kernel, _) = at(&a);
        overwrite(&mut kernel, map, from, to);
        let mut have = Have::read_locked(&kernel).expect("read");
        let left = rest(&have, &a);
        bring(&mut kernel, &mut have, &left);
        // slots that two records claimed are free only after the next reading
        let fresh = Have::read_locked(&kernel).expect("read");
        prop_assert_eq!(Snapshot::of(&fresh, About::default(), None), Snapshot::of_change(&a, About::default()));
        let found = check(&fresh).into_iter().filter(|found| found.layer != "capacity");
        prop_assert_eq!(found.collect::<Vec<_>>(), vec![]);
    }

    #[test]
    fn a_writer_that_dies_at_any_call_leaves_what_the_next_one_finishes(
        a in dice(), b in dice(), elements in 0_usize..12,
    ) {
        let (a, b) = (state(&a), state(&b));
        for call in 1.. {
            let (mut kernel, mut have) = at(&a);
            kernel.set_fault(Some(fault(call, elements, true)));
            let steps = plan(&have, &difference(&a, &b)).expect("plan");
            if apply(&mut kernel, &mut have, &steps, &mut |_, _| {}).is_ok() {
                break;
            }
            prop_assert!(plan(&have, &b).is_err(), "the mirror is stale");
            recover(&mut kernel, &a, &b);
        }
    }
}

#[test]
fn a_full_map_is_final_and_leaves_the_generation_even() {
    let rolls: Vec<u8> = (0..=255).rev().collect();
    let (mut kernel, mut have) = empty();
    kernel.set_fault(Some(Fault { call: 3, elements: 0, errno: libc::E2BIG, for_good: false }));
    let error = converge(&mut kernel, &mut have, &state(&rolls), &mut |_, _| {});
    assert!(matches!(error, Err(ApplyError::Kernel(KernelError::Full { .. }))), "{error:?}");
    let fresh = Have::read(&kernel).expect("read");
    assert_eq!(fresh.consistency(), Consistency::Settled);
    bring(&mut kernel, &mut have, &state(&rolls));
    assert_says(&kernel, &have, &state(&rolls));
}

#[test]
fn a_kernel_that_stays_dead_is_told_after_bounded_tries() {
    let rolls: Vec<u8> = (0..=255).collect();
    let (mut kernel, mut have) = empty();
    kernel.set_fault(Some(fault(1, 0, true)));
    let error = converge(&mut kernel, &mut have, &state(&rolls), &mut |_, _| {});
    assert!(matches!(error, Err(ApplyError::Kernel(KernelError::Map { .. }))), "{error:?}");
    assert!(kernel.calls() < 20);
}
