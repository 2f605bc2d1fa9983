//! The fake's control socket: one command a line, as JSON; one answer a line.

use std::path::{Path, PathBuf};

use prost::Message as _;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::objects::{Policy, Service, Type, Workload};
use crate::proto::discovery::DeltaDiscoveryResponse;
use crate::world::{Faults, State, World};

/// What a test can say.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Command {
    /// Serve these from now on.
    Set {
        /// Workloads.
        #[serde(default)]
        workloads: Vec<Workload>,
        /// Services.
        #[serde(default)]
        services: Vec<Service>,
        /// Policies.
        #[serde(default)]
        policies: Vec<Policy>,
        /// Names that are served no more, in the same step.
        #[serde(default)]
        remove: Vec<String>,
    },
    /// Serve these bytes by this name.
    Raw {
        /// The type.
        of: Type,
        /// The name.
        name: String,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Serve so many services of so many workloads each.
    Many {
        /// Services.
        services: usize,
        /// Workloads of each.
        endpoints: usize,
    },
    /// Send what these files hold, each the bytes of a response, as they stand.
    Send {
        /// The files, in order.
        files: Vec<PathBuf>,
    },
    /// Serve nothing.
    Clear,
    /// Fail like this from now on.
    Faults(Faults),
    /// End every stream.
    Close,
    /// Shut down as servers do: GOAWAY, every stream unavailable, nothing accepted any more.
    Shutdown,
    /// Say what was heard.
    Report,
}

/// Obeys commands at `path` for ever.
pub async fn listen(path: &Path, world: World) -> std::io::Result<()> {
    let listener = UnixListener::bind(path)?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(talk(stream, world.clone()));
    }
}

async fn talk(stream: UnixStream, world: World) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = match serde_json::from_str(&line) {
            Ok(command) => obey(command, &world),
            Err(error) => format!("{{\"error\":\"{error}\"}}"),
        };
        write.write_all(answer.as_bytes()).await?;
        write.write_all(b"\n").await?;
    }
    Ok(())
}

/// Does what a test says; answers in JSON.
#[must_use]
pub fn obey(command: Command, world: &World) -> String {
    match command {
        Command::Report => {
            return serde_json::to_string(&world.state().heard).unwrap_or_default();
        }
        Command::Set { workloads, services, policies, remove } => world.change(|state| {
            for name in &remove {
                state.remove(name);
            }
            for service in &services {
                state.set(Type::Address, service.encode());
            }
            for workload in &workloads {
                state.set(Type::Address, workload.encode());
            }
            for policy in &policies {
                state.set(Type::Authorization, policy.encode());
            }
        }),
        Command::Raw { of, name, bytes } => world.change(|state| state.set(of, (name, bytes))),
        Command::Many { services, endpoints } => {
            world.change(|state| many(state, services, endpoints));
        }
        Command::Send { files } => match files.iter().map(|file| captured(file)).collect() {
            Ok(responses) => {
                let responses: Vec<_> = responses;
                world.change(|state| state.script.extend(responses));
            }
            Err(error) => return serde_json::json!({ "error": error }).to_string(),
        },
        Command::Shutdown => world.change(|state| state.over = true),
        Command::Clear => world.change(State::clear),
        Command::Faults(faults) => world.change(|state| state.faults = faults),
        Command::Close => world.change(|state| state.epoch += 1),
    }
    "{}".to_owned()
}

/// The response that a file holds.
fn captured(file: &Path) -> Result<DeltaDiscoveryResponse, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let bytes = std::fs::read(file).map_err(|error| failed(&error))?;
    DeltaDiscoveryResponse::decode(&*bytes).map_err(|error| failed(&error))
}

/// A mesh of many services, as large clusters have them.
fn many(state: &mut State, services: usize, endpoints: usize) {
    let ip = |net: u8, n: usize| {
        let n = u32::try_from(n).unwrap_or_default() + 1;
        std::net::Ipv4Addr::from((u32::from(net) << 24) + n).into()
    };
    for at in 0..services {
        let (namespace, hostname) =
            (format!("ns-{}", at % 50), format!("svc-{at}.ns-{}.svc.cluster.local", at % 50));
        let name = format!("{namespace}/{hostname}");
        for n in 0..endpoints {
            let workload = Workload {
                uid: format!("Kubernetes//Pod/{namespace}/svc-{at}-{n}"),
                namespace: namespace.clone(),
                ips: vec![ip(10, at * endpoints + n)],
                account: format!("svc-{at}"),
                node: format!("node-{}", n % 100),
                services: [(name.clone(), [(80, 8080)].into())].into(),
                ..Workload::default()
            };
            state.set(Type::Address, workload.encode());
        }
        let vips = vec![ip(11, at)];
        let service =
            Service { namespace, hostname, vips, ports: [(80, 8080)].into(), ..Service::default() };
        state.set(Type::Address, service.encode());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_captured_is_sent_byte_for_byte() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/istiod");
        let mut seen = 0;
        for part in ["initial", "churn"] {
            for entry in std::fs::read_dir(fixtures.join(part)).expect("the fixtures") {
                let file = entry.expect("an entry").path();
                if file.extension().is_some_and(|of| of == "pb") {
                    let bytes = std::fs::read(&file).expect("a capture");
                    let response = captured(&file).expect("a response");
                    assert_eq!(response.encode_to_vec(), bytes, "{}", file.display());
                    seen += 1;
                }
            }
        }
        assert_eq!(seen, 34);
    }
}
