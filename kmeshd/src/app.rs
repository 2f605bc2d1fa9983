//! The composition root: starts the threads, hands them their ends of the channels, and waits for
//! a signal. It decides nothing else.
//!
//! ```text
//!  main     signals, admin address, control socket, systemd, DNS (tokio, current thread)
//!  source   watches and decodes the mesh file         → orders
//!  xds      asks and answers the control plane        → orders
//!  writer   the only one that writes to the kernel    ← orders
//!  denials  takes denied connections out of their ring → log, status
//! ```

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use kmesh_bpf::clock;
use kmesh_bpf::control::DaemonNote;
use kmesh_bpf::files::replace;
use kmesh_bpf::kernel::linux::Linux;
use kmesh_bpf::places::DAEMON;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{self, oneshot};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use crate::admin::{self, Admin};
use crate::config::{Config, LogFormat};
use crate::control::{self, CONTROL_PLANE, Control, MESH_FILE, Socket};
use crate::denials;
use crate::http;
use crate::readiness::Readiness;
use crate::reconcile::{Awaited, Order, Start, StartError, Tokens};
use crate::resolve::{self, Wanted};
use crate::shutdown::{Running, Shutdown};
use crate::sources::mesh_file::References;
use crate::sources::watch::{self, Wake};
use crate::sources::xds;
use crate::status::{Began, Status};

/// How long the writer may take to come to a good place after SIGTERM.
const PATIENCE: Duration = Duration::from_millis(800);

/// Sends the log to standard error.
pub fn log_to_stderr((format, filter): (LogFormat, &str)) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter)
        .with_context(|| format!("--log-level {filter}: no such level or filter"))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let set = match format {
        LogFormat::Text => log.with_ansi(false).with_target(false).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    set.map_err(|error| anyhow!("start the log: {error}"))
}

/// A panic anywhere ends the process: half a daemon would look alive.
fn end_on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        eprintln!("kmeshd: ends after a panic; what is in force in the kernel stays");
        std::process::exit(101);
    }));
}

/// Runs the daemon until a signal ends it.
pub fn run(config: Config, began: Instant) -> anyhow::Result<()> {
    end_on_panic();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let done = runtime.block_on(daemon(config, Began::threads_at(began)));
    // Nothing that is left running matters.
    runtime.shutdown_background();
    done
}

async fn daemon(config: Config, began: Began) -> anyhow::Result<()> {
    let readiness = Readiness::default();
    let status = Arc::new(Status::default());
    let end = Shutdown::default();
    let (orders, obeyed) = mpsc::channel();
    let (waker, calls) = mpsc::channel();
    let (adopted, start) = oneshot::channel();
    let (served, in_tables) = oneshot::channel();
    let (names, wanted) = sync::watch::channel(Wanted::default());

    let tokens = Tokens {
        file: config.mesh.as_ref().map(|_| readiness.hold("mesh file", "not read yet")),
        sync: Some(readiness.hold("first sync", "not done yet")),
        readiness: readiness.clone(),
    };
    let writer = Start {
        place: config.place.clone(),
        here: config.here.clone(),
        sources: sources(&config),
        awaited: Awaited { file: config.mesh.is_some(), xds: config.xds.is_some() },
        status: Arc::clone(&status),
        tokens,
        names,
        served: Some(served),
        began,
    };
    spawn_writer(writer, obeyed, adopted, end.running())?;
    if let Some(mesh) = &config.mesh {
        let references = match config.xds {
            Some(_) => References::Beyond,
            None => References::Within,
        };
        let ends = (calls, waker.clone(), orders.clone());
        spawn_source(mesh, references, ends, &status, began)?;
    }
    if let Some(options) = config.xds.clone() {
        let token = readiness.hold("control plane", "not connected yet");
        let (orders, status) = (orders.clone(), Arc::clone(&status));
        spawn_xds(options, xds::Ends { in_tables, orders, status, token })?;
    }

    tokio::spawn(resolve::run(config.dns.clone(), wanted, orders.clone()));
    let admin = Admin { readiness: readiness.clone(), status: Arc::clone(&status), orders };
    let orders = admin.orders.clone();
    let control = Control::new(admin.clone(), &config);
    let listening = serve(config.admin, admin).await;

    // Another daemon is the better reason why both failed.
    start.await.context("the writer ended before it began")??;
    denials::spawn(&config.place.root, &status);
    let address = listening
        .with_context(|| format!("listen at the admin address {} (--admin)", config.admin))?;
    let note = Note::write(&config.place.run_dir, address);
    let socket = serve_control(&config.place.run_dir, control);
    tokio::spawn(tell_systemd(readiness, status));
    until_signal(&waker).await?;
    leave(end, &orders, &waker).await;
    drop((note, socket));
    Ok(())
}

/// Answers at the admin address from now on; says which address that is.
async fn serve(at: SocketAddr, admin: Admin) -> io::Result<SocketAddr> {
    let listener = admin::listen(at).await?;
    let address = listener.local_addr()?;
    tokio::spawn(http::serve(listener, admin));
    Ok(address)
}

/// Answers at the control socket from now on. Only the holder of the writer's lock may: so its
/// place is free, or a dead daemon's. What is in force needs no socket: a failure is told, and
/// is no reason to end.
fn serve_control(run_dir: &Path, control: Control) -> Option<Socket> {
    match control::listen(run_dir) {
        Ok((listener, socket)) => {
            tokio::spawn(http::serve(listener, control));
            Some(socket)
        }
        Err(error) => {
            warn!("{}; kmeshctl cannot ask this daemon", crate::chain(&error));
            None
        }
    }
}

/// Ends the threads; threads that have ended already need no telling.
async fn leave(end: Shutdown, orders: &Sender<Order>, waker: &Sender<Wake>) {
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    let _ = orders.send(Order::Stop);
    let _ = waker.send(Wake::Stop);
    if !end.finished(PATIENCE).await {
        warn!("the writer is busy; ending all the same: every state of the tables is safe");
    }
}

fn spawn_writer(
    start: Start,
    orders: Receiver<Order>,
    adopted: oneshot::Sender<Result<(), StartError>>,
    running: Running,
) -> anyhow::Result<()> {
    let work = move || {
        let _running = running;
        match start.adopt(Linux::new()) {
            Ok(writer) => {
                // Nobody listens: the process is ending.
                let _ = adopted.send(Ok(()));
                writer.run(&orders);
            }
            Err(error) => {
                let _ = adopted.send(Err(error));
            }
        }
    };
    let thread = thread::Builder::new().name("writer".to_owned());
    thread.spawn(work).context("start the writer")?;
    Ok(())
}

fn spawn_source(
    mesh: &Path,
    references: References,
    (calls, waker, orders): (Receiver<Wake>, Sender<Wake>, Sender<Order>),
    status: &Arc<Status>,
    began: Began,
) -> anyhow::Result<()> {
    let (mesh, status) = (mesh.to_owned(), Arc::clone(status));
    let mut first = true;
    let work = move || {
        watch::run(&mesh, references, &calls, &waker, &mut |read| {
            if std::mem::take(&mut first) {
                status.facts().phases.push(began.phase("decoded"));
            }
            let order = match read {
                Ok(model) => Order::Model(Box::new(model)),
                Err(refused) => Order::Refused(refused),
            };
            // The writer has ended: so does the process.
            let _ = orders.send(order);
        });
    };
    let thread = thread::Builder::new().name("source".to_owned());
    thread.spawn(work).context("start the source")?;
    Ok(())
}

/// The control plane has a thread of its own: decoding a large answer takes long. It is asked while
/// the writer still adopts.
fn spawn_xds(options: xds::Options, ends: xds::Ends) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the control plane's runtime")?;
    let work = move || runtime.block_on(xds::run(options, ends));
    let thread = thread::Builder::new().name("xds".to_owned());
    thread.spawn(work).context("start the control plane's thread")?;
    Ok(())
}

/// The sources, as people name them.
fn sources(config: &Config) -> Vec<String> {
    let file = config.mesh.iter().map(|path| format!("{MESH_FILE} {}", path.display()));
    let plane = config.xds.iter().map(|xds| format!("{CONTROL_PLANE} {}", xds.addresses.join(",")));
    file.chain(plane).collect()
}

/// Waits for SIGTERM or SIGINT; at SIGHUP the file is read again.
async fn until_signal(waker: &Sender<Wake>) -> anyhow::Result<()> {
    let on = |kind| signal(kind).context("listen for signals");
    let mut term = on(SignalKind::terminate())?;
    let mut interrupt = on(SignalKind::interrupt())?;
    let mut hangup = on(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = term.recv() => info!("SIGTERM"),
            _ = interrupt.recv() => info!("SIGINT"),
            _ = hangup.recv() => {
                info!("SIGHUP: reading the mesh file again");
                // The source has ended: so does the process.
                let _ = waker.send(Wake::Reload);
                continue;
            }
        }
        return Ok(());
    }
}

/// Tells systemd when the daemon is ready, and that it is alive, if it asked to be told.
async fn tell_systemd(readiness: Readiness, status: Arc<Status>) {
    let mut ready = readiness.watch();
    let watchdog = sd_notify::watchdog_enabled();
    let beat = watchdog.map_or(Duration::from_hours(1), |limit| limit / 3);
    let mut told = false;
    loop {
        if *ready.borrow_and_update() && !told {
            told = true;
            let _ = sd_notify::notify(&[NotifyState::Ready]);
        }
        if watchdog.is_some() && status.is_alive() {
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
        // A pause is as good as a change.
        let _ = tokio::time::timeout(beat, ready.changed()).await;
    }
}

/// `kmeshd.json` in the run directory: who runs. Removed by drop, so at a clean end.
struct Note(Option<PathBuf>);

impl Note {
    fn write(run_dir: &Path, admin: SocketAddr) -> Self {
        let daemon = DaemonNote {
            pid: std::process::id(),
            start: clock::process_start(),
            admin,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let text = serde_json::to_vec(&daemon).unwrap_or_default();
        match replace(run_dir, DAEMON, &mut |file| file.write_all(&text)) {
            Ok(_) => Self(Some(run_dir.join(DAEMON))),
            Err(error) => {
                warn!("say who runs: {}", crate::chain(&error));
                Self(None)
            }
        }
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // Gone already: what was wanted.
            let _ = std::fs::remove_file(path);
        }
    }
}
