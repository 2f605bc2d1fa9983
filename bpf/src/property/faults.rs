//! Failing calls and dying writers.

use proptest::prelude::*;

use super::states::{dice, difference, state};
use super::{assert_safe, assert_says, bring, empty};
use crate::apply::{ApplyError, apply, converge};
use crate::kernel::KernelError;
use crate::memory::{Fault, MemoryKernel};
use crate::plan::plan;
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
    bring(kernel, &mut have, b);
    assert_eq!(have.consistency(), Consistency::Settled);
    assert_says(kernel, &have, b);
    assert_eq!(bring(kernel, &mut have, b).elements, 0, "a second start writes");
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
