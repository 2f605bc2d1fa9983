//! Writing a snapshot takes no memory for each entry, counted at the allocator: the peak above what
//! the tables themselves take is the same for 256 workloads and for 4096, but
//! for the two sorted lists of indices.

use std::io;

use kmesh_bpf::apply::converge;
use kmesh_bpf::layout::Limits;
use kmesh_bpf::memory::MemoryKernel;
use kmesh_bpf::snapshot::{About, Format, Listing};
use kmesh_bpf::tables::Have;
use kmesh_bpf::want::{Change, Endpoint, Family, Kind, Name, Service, ServiceKey, Workload};

#[global_allocator]
static COUNTING: dhat::Alloc = dhat::Alloc;

/// Endpoints of each service.
const EACH: u32 = 16;

fn uid(at: u32) -> Name {
    format!("Kubernetes//Pod/namespace/deployment-{at:08}").into()
}

fn service(at: u32) -> (ServiceKey, Option<Service>) {
    let (family, kind) = (Family::V4, Kind::Service);
    let name = format!("namespace/service-{at}.namespace.svc.cluster.local").into();
    let endpoint = |at| Endpoint { workload: uid(at), port: 8080, family };
    let service = Service {
        vips: vec![(0x0a60_0000 + at).to_be_bytes().into()],
        endpoints: (at * EACH..(at + 1) * EACH).map(endpoint).collect(),
        ..Service::default()
    };
    (ServiceKey { name, port: 80, family, kind }, Some(service))
}

fn workload(at: u32) -> (Name, Option<Workload>) {
    let v4 = (0x0a80_0000 + at).to_be_bytes();
    let workload =
        Workload { v4: Some(v4.into()), addresses: vec![v4.into()], ..Workload::default() };
    (uid(at), Some(workload))
}

fn tables(services: u32) -> Have {
    let mut kernel = MemoryKernel::with_tables(&Limits::default());
    let mut have = Have::read_locked(&kernel).expect("read");
    let change = Change {
        services: (0..services).map(service).collect(),
        workloads: (0..services * EACH).map(workload).collect(),
        ..Change::default()
    };
    converge(&mut kernel, &mut have, &change, &mut |_, _| {}).expect("write");
    have
}

/// Bytes at most above what was in use before.
fn peak(work: impl FnOnce()) -> usize {
    let _counting = dhat::Profiler::builder().testing().build();
    work();
    dhat::HeapStats::get().max_bytes
}

#[test]
fn no_entry_stays_in_memory() {
    for format in [Format::Json, Format::Yaml] {
        let [few, many] = [16, 256].map(|services| {
            let have = tables(services);
            peak(|| {
                let listing = Listing::new(&have);
                let written = listing.write(About::default(), None, format, &mut io::sink());
                written.expect("to nowhere");
            })
        });
        let indices = (256 - 16) * (1 + EACH as usize) * size_of::<u32>();
        // An entry is a few hundred bytes; 16 KiB is room for longer numbers in the last of them.
        assert!(many < few + indices + (16 << 10), "{format:?}: {few} bytes, then {many}");
        assert!(few < 1 << 20, "{format:?}: {few} bytes for the least");
    }
}
