//! Asks the daemon something, at its control socket in the run directory: HTTP/1.0, one request a
//! connection, each step with a deadline.
//!
//! It refuses to wait for ever, and to guess: no daemon, one that does not answer and one that
//! answers no are told apart.

use std::io::{self, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use kmesh_bpf::control;
use kmesh_bpf::places::{CONTROL, SOCKET_PATH_MAX};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

use crate::context::Context;

/// How long the daemon may take to begin its answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// How long it may be silent within an answer.
const SILENT_FOR: Duration = Duration::from_secs(10);
/// The largest head of an answer.
const HEAD_MAX: usize = 8192;
/// The largest answer that [`Answer::text`] reads.
const TEXT_MAX: u64 = 1 << 24;

/// Why the daemon said nothing that helps.
#[derive(Debug, thiserror::Error)]
pub enum NoDaemon {
    /// There is no socket.
    #[error("no daemon runs here: there is no control socket {} (--run-dir)", path.display())]
    Absent {
        /// The socket.
        path: PathBuf,
    },
    /// There is one that nobody listens at.
    #[error("no daemon runs here: nobody listens at its control socket {}", path.display())]
    Dead {
        /// The socket.
        path: PathBuf,
    },
    /// The path does not fit into a socket's address.
    #[error(
        "the control socket's path {} has {} bytes, and a Unix socket's has at most \
         {SOCKET_PATH_MAX}: no daemon can listen there; name its directory with --run-dir",
        path.display(), path.as_os_str().len()
    )]
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// It took too long.
    #[error("the daemon at {} did not answer {request} in time", path.display())]
    Silent {
        /// The socket.
        path: PathBuf,
        /// What it was asked.
        request: String,
    },
    /// It answered no.
    #[error("the daemon at {} answered {request} with {status}: {said}", path.display())]
    Refused {
        /// The socket.
        path: PathBuf,
        /// What it was asked.
        request: String,
        /// The status of HTTP.
        status: u16,
        /// What it said.
        said: String,
    },
    /// What it answered is no HTTP.
    #[error("what listens at {} answered {request} with something that is no answer", path.display())]
    Garbled {
        /// The socket.
        path: PathBuf,
        /// What it was asked.
        request: String,
    },
    /// A system call failed.
    #[error("ask the daemon at {}", path.display())]
    System {
        /// The socket.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// A good answer's body, still to be read; each read has a deadline.
#[derive(Debug)]
pub struct Answer {
    began: io::Cursor<Vec<u8>>,
    stream: UnixStream,
    asked: Asked,
}

impl Read for Answer {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.began.read(into)? {
            0 => self.stream.read(into),
            some => Ok(some),
        }
    }
}

impl Answer {
    /// All of a short answer.
    pub fn text(mut self) -> Result<String, NoDaemon> {
        let mut text = String::new();
        match self.by_ref().take(TEXT_MAX).read_to_string(&mut text) {
            Ok(_) => Ok(text),
            Err(source) => Err(self.asked.failed(source)),
        }
    }
}

/// What was asked, and where, for errors.
#[derive(Clone, Debug)]
struct Asked {
    path: PathBuf,
    request: String,
}

impl Asked {
    fn failed(&self, source: io::Error) -> NoDaemon {
        let (path, request) = (self.path.clone(), self.request.clone());
        match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                NoDaemon::Silent { path, request }
            }
            io::ErrorKind::InvalidData => NoDaemon::Garbled { path, request },
            _ => NoDaemon::System { path, source },
        }
    }
}

/// Sends one request; the answer, if it is a good one.
pub fn ask(ctx: &Context, method: &str, path: &str) -> Result<Answer, NoDaemon> {
    let socket = ctx.run_dir.join(CONTROL);
    let asked = Asked { path: socket, request: format!("{method} {path}") };
    let mut stream = connect(&asked.path)?;
    let request = format!("{method} {path} HTTP/1.0\r\nhost: kmeshd\r\n\r\n");
    let deadline = Instant::now() + ANSWERS_WITHIN;
    let sent = stream
        .set_write_timeout(Some(ANSWERS_WITHIN))
        .and_then(|()| stream.write_all(request.as_bytes()));
    sent.map_err(|source| asked.failed(source))?;
    let (status, began) = head(&mut stream, deadline).map_err(|source| asked.failed(source))?;
    stream.set_read_timeout(Some(SILENT_FOR)).map_err(|source| asked.failed(source))?;
    let answer = Answer { began: io::Cursor::new(began), stream, asked: asked.clone() };
    if status == 200 {
        return Ok(answer);
    }
    let said = answer.text()?.trim().to_owned();
    Err(NoDaemon::Refused { path: asked.path, request: asked.request, status, said })
}

/// Lets the daemon write nothing for so long (two seconds at most). Zero lets it write again.
pub fn hold(ctx: &Context, time: Duration) -> Result<(), NoDaemon> {
    ask(ctx, "POST", &format!("{}?ms={}", control::HOLD, time.as_millis()))?.text().map(|_| ())
}

/// Connects without waiting: a daemon whose queue is full does not answer.
fn connect(path: &std::path::Path) -> Result<UnixStream, NoDaemon> {
    use rustix::io::Errno;
    let system = |source: Errno| NoDaemon::System { path: path.to_owned(), source: source.into() };
    if path.as_os_str().len() > SOCKET_PATH_MAX {
        return Err(NoDaemon::TooLong { path: path.to_owned() });
    }
    let address = SocketAddrUnix::new(path).map_err(system)?;
    let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(system)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) => {}
        Err(Errno::NOENT | Errno::NOTDIR) => {
            return Err(NoDaemon::Absent { path: path.to_owned() });
        }
        Err(Errno::CONNREFUSED) => return Err(NoDaemon::Dead { path: path.to_owned() }),
        Err(Errno::AGAIN) => {
            let request = "a connection".to_owned();
            return Err(NoDaemon::Silent { path: path.to_owned(), request });
        }
        Err(error) => return Err(system(error)),
    }
    rustix::io::ioctl_fionbio(&socket, false).map_err(system)?;
    Ok(UnixStream::from(socket))
}

/// Reads the head of the answer: its status, and what came of the body with it.
fn head(stream: &mut UnixStream, deadline: Instant) -> io::Result<(u16, Vec<u8>)> {
    let mut text = Vec::with_capacity(1024);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let mut some = [0; 1024];
        let read = stream.read(&mut some)?;
        text.extend_from_slice(&some[..read]);
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut answer = httparse::Response::new(&mut headers);
        match (answer.parse(&text), answer.code) {
            (Ok(httparse::Status::Complete(length)), Some(status)) => {
                return Ok((status, text.split_off(length)));
            }
            (Ok(httparse::Status::Partial), _) if read > 0 && text.len() < HEAD_MAX => {}
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use clap::Parser as _;

    use super::*;
    use crate::args::Cli;

    fn context(run_dir: &std::path::Path) -> Context {
        let run_dir = run_dir.display().to_string();
        let args = ["kmeshctl", "verify", "--run-dir", &run_dir];
        Context::new(&Cli::try_parse_from(args).expect("good arguments"))
    }

    /// What `ask` makes of a daemon that answers so.
    fn answered(said: &'static [u8]) -> Result<String, NoDaemon> {
        let dir = tempfile::tempdir().expect("a directory");
        let listener = UnixListener::bind(dir.path().join(CONTROL)).expect("a socket");
        let daemon = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 512];
            let read = stream.read(&mut request).expect("a request");
            stream.write_all(said).expect("it listens");
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        let answer = ask(&context(dir.path()), "GET", "/status").and_then(Answer::text);
        let request = daemon.join().expect("it ends");
        assert!(request.starts_with("GET /status HTTP/1.0\r\n"), "{request}");
        answer
    }

    #[test]
    fn what_it_answers_is_read_to_the_end() {
        let said = answered(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nheld\n");
        assert_eq!(said.expect("an answer"), "held\n");
    }

    #[test]
    fn a_refusal_says_what_it_said() {
        let said = answered(b"HTTP/1.1 503 Service Unavailable\r\n\r\nthe writer is busy\n");
        let said = said.expect_err("a refusal").to_string();
        assert!(said.ends_with("GET /status with 503: the writer is busy"), "{said}");
    }

    #[test]
    fn nonsense_and_half_a_head_are_no_answer() {
        for said in [&b"\x00\xff nonsense\r\n\r\n"[..], b"HTTP/1.1 200 OK\r\ncontent"] {
            let answer = answered(said);
            assert!(matches!(answer, Err(NoDaemon::Garbled { .. })), "{answer:?}");
        }
    }

    #[test]
    fn no_socket_a_dead_one_and_a_long_path_are_told_apart() {
        let dir = tempfile::tempdir().expect("a directory");
        let ctx = context(dir.path());
        assert!(matches!(ask(&ctx, "GET", "/status"), Err(NoDaemon::Absent { .. })));
        drop(UnixListener::bind(dir.path().join(CONTROL)).expect("a socket"));
        assert!(matches!(hold(&ctx, Duration::ZERO), Err(NoDaemon::Dead { .. })));
        let ctx = context(&dir.path().join("d".repeat(120)));
        assert!(matches!(hold(&ctx, Duration::ZERO), Err(NoDaemon::TooLong { .. })));
    }
}
