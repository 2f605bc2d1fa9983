//! Map elements on the running kernel: the batched calls keep the trait's promises.

mod world;

use std::collections::BTreeMap;

use kmesh_bpf::kernel::linux::Linux;
use kmesh_bpf::kernel::{KernelError, Outcome, Put, Tables};
use kmesh_bpf::layout::Map;
use world::{SMALL, World};

fn bytes_of<T: bytemuck::Pod>(values: &[T]) -> &[u8] {
    bytemuck::cast_slice(values)
}

fn all(k: &Linux, map: Map, end: u32) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (key, value) = (map.shape().key_size as usize, map.shape().value_size as usize);
    let mut seen = Vec::new();
    k.scan(map, end, &mut |keys, values| {
        assert_eq!(keys.len() / key, values.len() / value);
        for (key, value) in keys.chunks(key).zip(values.chunks(value)) {
            seen.push((key.to_vec(), value.to_vec()));
        }
    })
    .expect("scan");
    seen
}

#[test]
fn one_element_obeys_its_condition() {
    let world = World::new();
    let (mut k, _) = world.maps();
    let (key, mut value) = (9u64.to_ne_bytes(), [0; 8]);
    let mut put =
        |value: u64, how| k.update(Map::Manager, &key, &value.to_ne_bytes(), how).expect("update");
    assert_eq!(put(1, Put::Exist), Outcome::Unmet);
    assert_eq!(put(2, Put::NoExist), Outcome::Done);
    assert_eq!(put(3, Put::NoExist), Outcome::Unmet);
    assert_eq!(put(4, Put::Exist), Outcome::Done);
    assert!(k.lookup(Map::Manager, &key, &mut value).expect("look up"));
    assert_eq!(u64::from_ne_bytes(value), 4);
    assert_eq!(k.delete(Map::Manager, &key).expect("delete"), Outcome::Done);
    assert_eq!(k.delete(Map::Manager, &key).expect("delete"), Outcome::Unmet);
    assert!(!k.lookup(Map::Manager, &key, &mut value).expect("look up"));
}

#[test]
fn arrays_are_written_in_runs_and_read_up_to_an_end() {
    let world = World::new();
    let (mut k, _) = world.maps();
    let indices: Vec<u32> = (3..100).collect();
    let words: Vec<u64> = indices.iter().map(|index| u64::from(*index) * 7).collect();
    k.update_batch(Map::Endpoint, bytes_of(&indices), bytes_of(&words)).expect("write");
    for end in [0, 1, 50, 128, 129, u32::MAX] {
        let seen = all(&k, Map::Endpoint, end);
        assert_eq!(seen.len(), end.min(SMALL.endpoints) as usize);
        for (at, (key, value)) in (0u32..).zip(&seen) {
            let wanted = if (3..100).contains(&at) { u64::from(at) * 7 } else { 0 };
            assert_eq!(
                (key.as_slice(), value.as_slice()),
                (&at.to_ne_bytes()[..], &wanted.to_ne_bytes()[..])
            );
        }
    }
}

#[test]
fn a_hash_of_thousands_is_seen_whole_and_once() {
    let world = World::new();
    let (mut k, _) = world.maps();
    let wanted: BTreeMap<[u32; 5], u64> = (0..30_000u32)
        .map(|at| ([at, at.wrapping_mul(2_654_435_761), 0, 0, 1], u64::from(at)))
        .collect();
    let keys: Vec<[u32; 5]> = wanted.keys().copied().collect();
    let values: Vec<u64> = wanted.values().copied().collect();
    k.update_batch(Map::Frontend, bytes_of(&keys), bytes_of(&values)).expect("write");
    let seen = all(&k, Map::Frontend, 0);
    assert_eq!(seen.len(), wanted.len());
    let seen: BTreeMap<[u32; 5], u64> = seen
        .iter()
        .map(|(key, value)| {
            (bytemuck::pod_read_unaligned(key), bytemuck::pod_read_unaligned(value))
        })
        .collect();
    assert_eq!(seen, wanted);
}

#[test]
fn a_run_of_deletes_passes_over_what_is_not_there() {
    let world = World::new();
    let (mut k, _) = world.maps();
    let there: Vec<u64> = vec![1, 3, 5, 7];
    k.update_batch(Map::Manager, bytes_of(&there), bytes_of(&there)).expect("write");
    let asked: Vec<u64> = vec![0, 1, 2, 3, 4, 5, 6, 8, 9];
    k.delete_batch(Map::Manager, bytes_of(&asked)).expect("delete");
    let left = all(&k, Map::Manager, 0);
    assert_eq!(left, [(7u64.to_ne_bytes().to_vec(), 7u64.to_ne_bytes().to_vec())]);
    k.delete_batch(Map::Manager, bytes_of(&asked)).expect("delete what is gone");
    k.delete_batch(Map::Manager, &[]).expect("delete nothing");
}

#[test]
fn a_full_map_says_its_limit_and_option() {
    let world = World::new();
    let (mut k, _) = world.maps();
    let many: Vec<u64> = (0..17).collect();
    let error = k.update_batch(Map::Manager, bytes_of(&many), bytes_of(&many)).expect_err("full");
    assert!(matches!(error, KernelError::Full { map: Map::Manager, limit: 16 }), "{error:?}");
    assert!(error.to_string().contains("raise it with --max-pods"), "{error}");
    assert_eq!(all(&k, Map::Manager, 0).len(), 16, "what fitted is there");
    let one = k.update(Map::Manager, &99u64.to_ne_bytes(), &[0; 8], Put::Any).expect_err("full");
    assert!(matches!(one, KernelError::Full { .. }), "{one:?}");
    let beyond =
        k.update(Map::Service, &64u32.to_ne_bytes(), &[0; 32], Put::Any).expect_err("full");
    assert!(matches!(beyond, KernelError::Full { map: Map::Service, limit: 64 }), "{beyond:?}");
}

#[test]
fn counters_have_a_value_per_cpu() {
    let world = World::new();
    let (k, _) = world.maps();
    let values = k.lookup_per_cpu(Map::Stats, 31).expect("read");
    assert_eq!(values.len(), aya::util::nr_cpus().expect("the CPUs"));
    assert!(values.iter().all(|value| *value == 0));
    assert!(k.lookup_per_cpu(Map::Stats, 32).is_err());
}

#[test]
fn wrong_sizes_and_unopened_maps_are_refused() {
    let world = World::new();
    let (mut k, _) = world.maps();
    assert!(k.update(Map::Manager, &[0; 4], &[0; 8], Put::Any).is_err());
    assert!(k.lookup(Map::Service, &[0; 4], &mut [0; 8]).is_err());
    assert!(k.update_batch(Map::Endpoint, &[0; 8], &[0; 8]).is_err());
    let mut unopened = Linux::new();
    let error = unopened.delete(Map::Manager, &[0; 8]).expect_err("not opened");
    assert!(error.to_string().contains("map_of_manager"), "{error}");
}

#[test]
fn grace_returns() {
    Linux::new().grace().expect("membarrier");
}
