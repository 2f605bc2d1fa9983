//! Who connects: a pod of this node by uid, `namespace/name`, name, address, netns cookie, or the
//! path of its network namespace; or the host itself, as `host`.
//!
//! It refuses a name that no enrolled pod has, or more than one: who that is cannot be known from
//! the kernel.

use std::net::IpAddr;
use std::path::Path;

use bytemuck::Zeroable as _;

use super::ExplainError;
use super::look;
use super::said::Source;
use crate::kernel::{Kernel, KernelError, Tables};
use crate::layout::{BackendRecord, FrontendKey, FrontendWord, Map, SettingsWords};
use crate::netns;
use crate::pins::Root;
use crate::pods::{self, Record};

/// What names the host itself.
const HOST: &str = "host";
/// How many enrolled pods an error names.
const NAMED: usize = 8;

/// The source that `given` names.
pub(super) fn find(k: &dyn Kernel, root: &Root, given: &str) -> Result<Source, ExplainError> {
    if given == HOST {
        let settings = look::settings(k).map_err(ExplainError::Kernel)?;
        let cookie = Some(settings.0[SettingsWords::HOST]).filter(|cookie| *cookie != 0);
        return Ok(Source { given: given.to_owned(), cookie, ..Source::default() });
    }
    if let Ok(cookie) = given.parse() {
        return by_cookie(k, root, given, cookie);
    }
    if let Ok(address) = given.parse() {
        return by_address(k, root, given, address);
    }
    if given.starts_with('/') || given.starts_with("pid:") {
        let path = netns::resolve(given).map_err(ExplainError::Netns)?;
        let cookie = netns::cookie_of(&path).map_err(ExplainError::Netns)?;
        let source = by_cookie(k, root, given, cookie)?;
        return Ok(Source { netns: Some(path), ..source });
    }
    by_name(k, root, given)
}

fn by_cookie(
    k: &dyn Kernel,
    root: &Root,
    given: &str,
    cookie: u64,
) -> Result<Source, ExplainError> {
    Ok(source(given, pods::one(k, root, cookie).map_err(ExplainError::Pods)?))
}

fn source(given: &str, record: Record) -> Source {
    let Record { cookie, uid, netns, .. } = record;
    Source { given: given.to_owned(), cookie: Some(cookie), uid, netns }
}

/// The pod of the workload that has this address; without a cookie where it is not of this node,
/// or not managed.
fn by_address(
    k: &dyn Kernel,
    root: &Root,
    given: &str,
    address: IpAddr,
) -> Result<Source, ExplainError> {
    let nobody = Source { given: given.to_owned(), ..Source::default() };
    let Some((index, uid)) = workload_at(k, address).map_err(ExplainError::Kernel)? else {
        return Ok(nobody);
    };
    let is_it = |record: &Record| {
        record.uid.as_deref() == Some(&uid)
            || record.uid.is_none() && record.word.is_some_and(|word| word.backend() == Some(index))
    };
    let records = pods::list(k, root).map_err(ExplainError::Pods)?;
    match records.into_iter().find(is_it) {
        Some(record) => Ok(source(given, record)),
        None => Ok(Source { uid: Some(uid), ..nobody }),
    }
}

/// The workload that an address leads to: its index and uid.
fn workload_at(k: &dyn Tables, address: IpAddr) -> Result<Option<(u32, String)>, KernelError> {
    let key = FrontendKey::workload(address);
    let mut word = FrontendWord::zeroed();
    let (key, value) = (bytemuck::bytes_of(&key), bytemuck::bytes_of_mut(&mut word));
    if !k.lookup(Map::Frontend, key, value)? || word.index() >= k.max_entries(Map::Backend)? {
        return Ok(None);
    }
    let mut record = BackendRecord::zeroed();
    let index = word.index();
    k.lookup(Map::Backend, &index.to_ne_bytes(), bytemuck::bytes_of_mut(&mut record))?;
    Ok(Some((index, look::uid(k, &record)?)))
}

fn by_name(k: &dyn Kernel, root: &Root, given: &str) -> Result<Source, ExplainError> {
    let records = pods::list(k, root).map_err(ExplainError::Pods)?;
    let uids: Vec<&str> = records.iter().filter_map(|record| record.uid.as_deref()).collect();
    let exact = uids.contains(&given);
    let is_it = |uid: &str| {
        if exact { uid == given } else { Path::new(uid).ends_with(given) }
    };
    let named: Vec<String> = uids.iter().filter(|uid| is_it(uid)).map(|&uid| uid.into()).collect();
    let found = records.iter().find(|record| record.uid.as_deref().is_some_and(is_it));
    match (found, named.len()) {
        (Some(record), 1) => Ok(source(given, record.clone())),
        (Some(_), _) => Err(ExplainError::Ambiguous { given: given.into(), pods: some(&named) }),
        (None, _) => {
            let uids: Vec<String> = uids.into_iter().map(str::to_owned).collect();
            Err(ExplainError::Unknown { given: given.to_owned(), pods: some(&uids) })
        }
    }
}

/// Names for an error.
fn some(uids: &[String]) -> String {
    match uids {
        [] => "none".to_owned(),
        few if few.len() <= NAMED => few.join(", "),
        many => format!("{}, and {} more", many[..NAMED].join(", "), many.len() - NAMED),
    }
}
