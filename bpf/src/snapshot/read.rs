//! Reads snapshots from files: JSON and YAML, as a stream.
//!
//! It refuses what is not of the schema, a wrong checksum, and content that contradicts itself,
//! all before anybody acts upon it; and it refuses files that are too long, so that a hostile one
//! cannot take the memory of the node. What it returns need not be judged again.

use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::schema::{File, checksum};
use super::words::Reading;
use super::{
    About, PodEntry, SCHEMA_VERSION, ServiceEntry, Snapshot, SnapshotError, WorkloadEntry,
};
use crate::authz::Policy;
use crate::check::{Invalid, Problem, validate_snapshot};
use crate::tables::is_name;

type Owned = File<Vec<ServiceEntry>, Vec<WorkloadEntry>, Vec<Arc<Policy>>, Vec<PodEntry>>;

/// The longest JSON file: about eight million endpoints.
const JSON_MAX: u64 = 2 << 30;
/// The longest YAML file, which has to be in memory as a whole.
const YAML_MAX: u64 = 256 << 20;
/// The longest path that the kernel takes (`PATH_MAX`, with the final zero).
const PATH_MAX: usize = 4096;

impl Snapshot {
    /// Reads JSON or YAML from memory; `origin` names the file in errors.
    pub fn parse(text: &[u8], origin: &str) -> Result<Self, SnapshotError> {
        Self::read(text, origin)
    }

    /// Reads JSON or YAML; `origin` names the file in errors. JSON is read as it comes, and never
    /// held as text.
    pub fn read(from: impl Read, origin: &str) -> Result<Self, SnapshotError> {
        let unreadable = |source| SnapshotError::Read { origin: origin.to_owned(), source };
        let mut from = BufReader::with_capacity(1 << 17, from);
        let (blanks, first) = leading_blanks(&mut from).map_err(unreadable)?;
        let file = if first == Some(b'{') {
            json(blanks.chain(from), origin)
        } else {
            yaml(blanks.chain(from), origin)
        };
        accept(file?, origin)
    }
}

/// The blanks that a file begins with, and the first byte after them, which is only looked at.
fn leading_blanks(from: &mut impl BufRead) -> io::Result<(Cursor<Vec<u8>>, Option<u8>)> {
    let mut blanks = Vec::new();
    loop {
        let first = from.fill_buf()?.first().copied();
        match first {
            Some(blank) if blank.is_ascii_whitespace() && (blanks.len() as u64) < YAML_MAX => {
                blanks.push(blank);
                from.consume(1);
            }
            _ => return Ok((Cursor::new(blanks), first)),
        }
    }
}

fn json(from: impl Read, origin: &str) -> Result<Owned, SnapshotError> {
    let _reading = Reading::begin(None);
    let mut from = Bounded { from, left: JSON_MAX, cut: false };
    // The deserializer asks for one byte at a time.
    let mut ahead = BufReader::with_capacity(1 << 16, &mut from);
    let file = serde_json::from_reader(&mut ahead);
    file.map_err(|error| match error.io_error_kind() {
        Some(_) if from.cut => too_long(origin, JSON_MAX),
        Some(_) => SnapshotError::Read { origin: origin.to_owned(), source: error.into() },
        None => syntax(origin, &error.to_string()),
    })
}

fn yaml(mut from: impl Read, origin: &str) -> Result<Owned, SnapshotError> {
    let mut text = Vec::new();
    let read = from.by_ref().take(YAML_MAX + 1).read_to_end(&mut text);
    read.map_err(|source| SnapshotError::Read { origin: origin.to_owned(), source })?;
    if text.len() as u64 > YAML_MAX {
        return Err(too_long(origin, YAML_MAX));
    }
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(syntax(origin, "the file is empty; a snapshot has at least schemaVersion"));
    }
    let _reading = Reading::begin(Some(text.len() as u64));
    serde_yaml::from_slice(&text).map_err(|error| syntax(origin, &error.to_string()))
}

/// What is not of the schema may be quoted in the message: not all of a long text.
fn syntax(origin: &str, reason: &str) -> SnapshotError {
    const SHOWN: usize = 400;
    let reason = match reason.char_indices().nth(SHOWN) {
        None => reason.to_owned(),
        Some((at, _)) => {
            // Line and column are the last words.
            let place = reason.rfind(" at line ").filter(|place| *place > at);
            format!("{}…{}", &reason[..at], place.map_or("", |place| &reason[place..]))
        }
    };
    SnapshotError::Syntax { origin: origin.to_owned(), reason }
}

fn too_long(origin: &str, max: u64) -> SnapshotError {
    let reason = format!("longer than {} MiB; split it, or write it as JSON", max >> 20);
    SnapshotError::Syntax { origin: origin.to_owned(), reason }
}

/// Fails, rather than ends, after so many bytes.
struct Bounded<R> {
    from: R,
    left: u64,
    cut: bool,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(into)?;
        let Some(left) = self.left.checked_sub(read as u64) else {
            self.cut = true;
            return Err(io::Error::other("too long"));
        };
        self.left = left;
        Ok(read)
    }
}

/// The version, refused as soon as it is read: what a newer schema says after it is not known.
pub(super) fn version<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let found = u64::deserialize(from)?;
    let known = u32::try_from(found).ok().filter(|found| *found <= SCHEMA_VERSION);
    match known {
        None => Err(D::Error::custom(format_args!(
            "schema version {found} is newer than {SCHEMA_VERSION}, the newest that this build \
             reads; use the Kmesh that wrote it"
        ))),
        Some(0) => Err(D::Error::custom("schemaVersion 0 never was; write 2")),
        Some(known) => Ok(known),
    }
}

/// Compares the checksum, then judges the content.
fn accept(mut file: Owned, origin: &str) -> Result<Snapshot, SnapshotError> {
    if let Some(said) = file.checksum.take() {
        let is = checksum(&file).unwrap_or_default();
        if said != is {
            return Err(SnapshotError::Checksum { origin: origin.to_owned() });
        }
    }
    let about = About {
        node: file.node,
        kernel: file.kernel,
        boot_id: file.boot_id,
        time: file.time,
        generation: file.generation,
        consistent: file.consistent,
        unfinished: file.unfinished,
    };
    let snapshot = Snapshot {
        about,
        settings: file.settings,
        services: file.services,
        workloads: file.workloads,
        policies: file.policies,
        pods: file.pods,
    }
    .sorted();
    let invalid = |source| SnapshotError::Invalid { origin: origin.to_owned(), source };
    judge_pods(&snapshot).map_err(invalid)?;
    judge_policies(&snapshot).map_err(invalid)?;
    validate_snapshot(&snapshot).map_err(invalid)?;
    Ok(snapshot)
}

/// A policy's own problems were told where it was read.
fn judge_policies(snapshot: &Snapshot) -> Result<(), Invalid> {
    let mut problems = Vec::new();
    let policies = snapshot.policies.as_deref().unwrap_or_default();
    for pair in policies.windows(2).filter(|pair| pair[0].name == pair[1].name) {
        let object = format!("policy {}", pair[0].name);
        problems.push(Problem { object, problem: "is there twice; keep one of them".to_owned() });
    }
    for workload in &snapshot.workloads {
        let object = || format!("workload {}", workload.uid);
        for pair in workload.policies.windows(2).filter(|pair| pair[0] == pair[1]) {
            let problem = format!("names policy {} twice; once is enough", pair[0]);
            problems.push(Problem { object: object(), problem });
        }
        for name in workload.policies.iter().filter(|name| !is_name(name)) {
            let problem = format!(
                "names policy {name:?}, which is empty, too long or has control characters; \
                 mend it"
            );
            problems.push(Problem { object: object(), problem });
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Invalid { problems }) }
}

fn judge_pods(snapshot: &Snapshot) -> Result<(), Invalid> {
    let pods = snapshot.pods.as_deref().unwrap_or_default();
    let mut problems = Vec::new();
    let mut say = |pod: &PodEntry, problem: &str| {
        let object = format!("pod with netns cookie {}", pod.cookie);
        problems.push(Problem { object, problem: problem.to_owned() });
    };
    for pair in pods.windows(2).filter(|pair| pair[0].cookie == pair[1].cookie) {
        say(&pair[0], "is there twice; keep one of them");
    }
    for pod in pods {
        if pod.cookie == 0 {
            say(pod, "0 is no cookie; take it out");
        }
        if pod.uid.as_deref().is_some_and(|uid| !is_name(uid)) {
            say(pod, "its uid is empty, too long or has control characters; mend it");
        }
        let is_path = |path: &str| {
            path.starts_with('/') && path.len() < PATH_MAX && !path.chars().any(char::is_control)
        };
        if pod.netns.as_deref().is_some_and(|path| !is_path(path)) {
            say(pod, "its netns is no absolute path; mend it, or leave it out");
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Invalid { problems }) }
}
