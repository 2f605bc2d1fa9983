//! The control socket, `kmeshd.sock` in the run directory: what only root on this machine may ask.
//! `POST /hold?ms=N` lets the tables stand still for a moment, for a reader that met a moving
//! generation; `ms=0` lets them go again.
//!
//! It refuses everything else with 404. A socket that a dead daemon left is replaced in one step;
//! its own is removed at the end.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use kmesh_bpf::places::CONTROL;
use tokio::net::UnixListener;
use tokio::sync::oneshot;

use crate::admin::Admin;
use crate::http::{Answer, Door, say};
use crate::reconcile::Order;

/// The longest that writes are held, and how long unless the request says.
const HOLD: Duration = Duration::from_secs(2);

/// What the control socket answers with.
#[derive(Clone, Debug)]
pub struct Control(pub Admin);

impl Door for Control {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        match (request.method(), request.uri().path()) {
            (&Method::POST, "/hold") => self.hold(request.uri().query()).await,
            _ => say(StatusCode::NOT_FOUND, "here: POST /hold?ms=N\n".to_owned()),
        }
    }
}

impl Control {
    async fn hold(&self, query: Option<&str>) -> Answer {
        let asked = query.and_then(|query| query.strip_prefix("ms="));
        let time = match asked.map(str::parse) {
            None => HOLD,
            Some(Ok(ms)) => Duration::from_millis(ms).min(HOLD),
            Some(Err(_)) => {
                return say(StatusCode::BAD_REQUEST, "ms=N, a number of milliseconds\n".to_owned());
            }
        };
        let (done, held) = oneshot::channel();
        let asked = self.0.orders.send(Order::Hold(time, done)).is_ok();
        if asked && matches!(tokio::time::timeout(HOLD, held).await, Ok(Ok(()))) {
            say(StatusCode::OK, "held\n".to_owned())
        } else {
            say(StatusCode::SERVICE_UNAVAILABLE, "the writer is busy\n".to_owned())
        }
    }
}

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
#[error("{op} the control socket {}", path.display())]
pub struct SocketError {
    op: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// The socket at its place; removed by drop, unless another one stands there by then.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    inode: u64,
}

/// Takes the place of the control socket in `run_dir`: made aside, for root alone, then renamed,
/// so that nobody ever finds it missing or open to others.
pub fn listen(run_dir: &Path) -> Result<(UnixListener, Socket), SocketError> {
    let path = run_dir.join(CONTROL);
    let on = |op| {
        let path = path.clone();
        move |source| SocketError { op, path, source }
    };
    fs::create_dir_all(run_dir).map_err(on("make the directory of"))?;
    // By the directory's descriptor: the name aside is longer than the path that clients use.
    let dir = fs::File::open(run_dir).map_err(on("open the directory of"))?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&dir);
    let aside = PathBuf::from(format!("/proc/self/fd/{fd}/.{CONTROL}.{}", std::process::id()));
    // Left by a process of the same id that died between two steps.
    let _ = fs::remove_file(&aside);
    let listener = UnixListener::bind(&aside).map_err(on("make"))?;
    fs::set_permissions(&aside, fs::Permissions::from_mode(0o600))
        .map_err(on("close to others"))?;
    fs::rename(&aside, &path).map_err(on("put in place"))?;
    let inode = fs::symlink_metadata(&path).map_err(on("look at"))?.ino();
    Ok((listener, Socket { path, inode }))
}

impl Drop for Socket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|said| said.ino() == self.inode);
        if ours {
            // Gone already: what was wanted.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_left_by_a_dead_daemon_is_replaced_and_ones_own_is_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let run = dir.path().join("run");
        let (first, left) = listen(&run).expect("a socket");
        let path = run.join(CONTROL);
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(first);
        let (_second, own) = listen(&run).expect("a socket in its place");
        drop(left);
        assert!(path.exists(), "the first one's end takes nothing from the second");
        std::os::unix::net::UnixStream::connect(&path).expect("somebody listens");
        drop(own);
        assert_eq!(fs::read_dir(&run).expect("a directory").count(), 0);
    }
}
