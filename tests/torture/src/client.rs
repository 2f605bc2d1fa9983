//! A client: connects to a random VIP as fast as it can and looks whom it reached.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use serde::Serialize;

use crate::truth::{Answer, Truth};

/// Wrong answers kept in words.
const SAMPLES: usize = 20;
/// A connect within one machine that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(4);

/// What the clients saw.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Counts {
    /// Connects that were answered.
    pub(crate) connects: u64,
    /// Of these, to endpoints.
    pub(crate) steered: u64,
    /// Answers that were right at no moment of the connect.
    pub(crate) elsewhere: u64,
    /// Refused where an endpoint or an unchanged destination was right.
    pub(crate) refused: u64,
    /// No answer in time, or another error.
    pub(crate) failed: u64,
    /// The first wrong ones.
    pub(crate) wrong: Vec<String>,
}

impl Counts {
    /// Nothing was wrong.
    pub(crate) fn is_clean(&self) -> bool {
        self.elsewhere + self.refused + self.failed == 0
    }

    /// Adds another client's.
    pub(crate) fn add(&mut self, other: Self) {
        self.connects += other.connects;
        self.steered += other.steered;
        self.elsewhere += other.elsewhere;
        self.refused += other.refused;
        self.failed += other.failed;
        self.wrong.extend(other.wrong);
        self.wrong.truncate(SAMPLES);
    }

    fn note(&mut self, words: String) {
        if self.wrong.len() < SAMPLES {
            self.wrong.push(words);
        }
    }
}

/// Connects until told to stop.
pub(crate) fn run(truth: &Truth, stop: &AtomicBool, number: u8) -> Counts {
    let mut random = fastrand::Rng::with_seed(u64::from(number) + 1);
    let mut counts = Counts::default();
    while !stop.load(Ordering::Relaxed) {
        let Some(vip) = random.choice(truth.vips()).copied() else {
            return counts;
        };
        let from = Instant::now();
        let answer = connect(vip);
        let to = Instant::now();
        match answer {
            Ok(answer) => {
                counts.connects += 1;
                counts.steered += u64::from(matches!(answer, Answer::Endpoint(_)));
                if !truth.was_right(vip, answer, from, to) {
                    *if answer == Answer::Refused {
                        &mut counts.refused
                    } else {
                        &mut counts.elsewhere
                    } += 1;
                    counts.note(format!("{vip} came to {answer:?}"));
                }
            }
            Err(error) => {
                counts.failed += 1;
                counts.note(format!("{vip}: {error}"));
            }
        }
    }
    counts
}

fn connect(vip: SocketAddr) -> io::Result<Answer> {
    let stream = match TcpStream::connect_timeout(&vip, PATIENCE) {
        Ok(stream) => stream,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            return Ok(Answer::Refused);
        }
        Err(error) => return Err(error),
    };
    let peer = stream.peer_addr()?;
    // Reset, so that no port waits.
    set_socket_linger(&stream, Some(Duration::ZERO))?;
    Ok(if peer == vip { Answer::Unchanged } else { Answer::Endpoint(peer) })
}
