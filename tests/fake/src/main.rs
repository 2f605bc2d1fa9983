//! `kmesh-fake-istiod`: a control plane for the suites.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::{Parser, Subcommand};
use kmesh_fake_istiod::{Security, control, pki, start, world::World};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// A control plane for tests.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve until killed
    Serve {
        /// Where to listen
        #[arg(long)]
        listen: SocketAddr,
        /// The control socket
        #[arg(long)]
        control: PathBuf,
        /// Where certificates are written (root.pem, cert.pem, key.pem): serve TLS
        #[arg(long)]
        pki: Option<PathBuf>,
        /// The name in the certificate
        #[arg(long, default_value = "istiod.istio-system.svc")]
        name: String,
        /// The token that is asked for
        #[arg(long, default_value = "good")]
        token: String,
    },
    /// Say one command to a fake, and print its answer
    Tell {
        /// Its control socket
        control: PathBuf,
        /// The command, as JSON
        command: String,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Args::parse().verb {
        Verb::Serve { listen, control, pki, name, token } => {
            let security = pki.map(|dir| security(&dir, &name, token)).transpose()?;
            let world = World::default();
            let fake = start(listen, world.clone(), security)
                .await
                .map_err(|error| anyhow!("listen at {listen}: {error}"))?;
            eprintln!("listening at {}", fake.address);
            // Of an earlier one that was killed.
            let _ = fs::remove_file(&control);
            control::listen(&control, world).await.context("the control socket")
        }
        Verb::Tell { control, command } => {
            let mut stream = UnixStream::connect(&control).await.context("the control socket")?;
            stream.write_all(format!("{}\n", command.replace('\n', " ")).as_bytes()).await?;
            stream.shutdown().await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            print!("{answer}");
            anyhow::ensure!(!answer.contains("\"error\""), "the fake did not understand");
            Ok(())
        }
    }
}

fn security(dir: &std::path::Path, name: &str, token: String) -> anyhow::Result<Security> {
    let pki = pki::make(name).context("make certificates")?;
    fs::create_dir_all(dir)?;
    fs::write(dir.join("root.pem"), &pki.root)?;
    Ok(Security { pki, token })
}
