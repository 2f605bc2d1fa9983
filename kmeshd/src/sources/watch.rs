//! Watches the mesh file and hands on what it says, from a thread of its own: a large file is
//! decoded while the daemon answers and writes.
//!
//! Its directories are watched rather than the file (editors rename, config maps swap symbolic
//! links); since notices can be lost, the file is also looked at every few seconds. Only a file
//! that differs is read.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tracing::{debug, warn};

use super::mesh_file::{self, MeshFileError, References};
use crate::model::Model;

/// How often the file is looked at without a notice.
const LOOK: Duration = Duration::from_secs(5);
/// How long a change may go on before it is read: a file is often written in several pieces.
const SETTLE: Duration = Duration::from_millis(20);

/// What calls the watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Something changed near the file.
    Notice,
    /// Read it again even if it looks the same.
    Reload,
    /// End.
    Stop,
}

/// What tells one state of a file from another without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Look {
    place: (u64, u64),
    size: u64,
    changed: (i64, i64),
}

fn look(path: &Path) -> Option<Look> {
    let said = fs::metadata(path).ok()?;
    Some(Look {
        place: (said.dev(), said.ino()),
        size: said.size(),
        changed: (said.ctime(), said.ctime_nsec()),
    })
}

/// Reads `path` and hands it on, now and whenever it changes, until [`Wake::Stop`] or until
/// nobody can wake it.
pub fn run(
    path: &Path,
    references: References,
    calls: &Receiver<Wake>,
    waker: &Sender<Wake>,
    hand_on: &mut dyn FnMut(Result<Model, MeshFileError>),
) {
    let mut watched = Watched::new(waker.clone());
    watched.follow(path);
    let mut seen = look(path);
    hand_on(mesh_file::read(path, references));
    loop {
        let reload = match calls.recv_timeout(LOOK) {
            Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(Wake::Reload) => true,
            Ok(Wake::Notice) | Err(RecvTimeoutError::Timeout) => false,
        };
        if !reload && look(path) == seen {
            continue;
        }
        seen = settle(path);
        watched.follow(path);
        debug!(file = %path.display(), "the mesh file is read again");
        hand_on(mesh_file::read(path, references));
    }
}

/// Waits until the file has stood still for a moment.
fn settle(path: &Path) -> Option<Look> {
    let mut last = look(path);
    // A file that never stands still is read all the same.
    for _ in 0..50 {
        std::thread::sleep(SETTLE);
        let now = look(path);
        if now == last {
            break;
        }
        last = now;
    }
    last
}

/// The directories that are watched.
struct Watched {
    watcher: Option<RecommendedWatcher>,
    dirs: Vec<PathBuf>,
}

impl Watched {
    fn new(waker: Sender<Wake>) -> Self {
        let watcher = notify::recommended_watcher(move |notice: notify::Result<notify::Event>| {
            let noteworthy = notice.is_ok_and(|event| !event.kind.is_access());
            if noteworthy {
                // Nobody listens any more: the daemon is ending.
                let _ = waker.send(Wake::Notice);
            }
        });
        let watcher = watcher
            .inspect_err(|error| warn!(%error, "no notices of file changes; looking every 5 s"));
        Self { watcher: watcher.ok(), dirs: Vec::new() }
    }

    /// Watches the directories that the way to the file leads through now.
    fn follow(&mut self, path: &Path) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let wanted = directories(path);
        for dir in self.dirs.iter().filter(|dir| !wanted.contains(dir)) {
            // A directory that is gone is no longer watched anyway.
            let _ = watcher.unwatch(dir);
        }
        for dir in &wanted {
            if !self.dirs.contains(dir)
                && let Err(error) = watcher.watch(dir, RecursiveMode::NonRecursive)
            {
                warn!(dir = %dir.display(), %error, "no notices of changes; looking every 5 s");
            }
        }
        self.dirs = wanted;
    }
}

/// The directory of the file and of each symbolic link on the way to it.
fn directories(path: &Path) -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    let mut step = path.to_owned();
    for _ in 0..16 {
        let dir = match step.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir.to_owned(),
            _ => PathBuf::from("."),
        };
        if !dirs.contains(&dir) {
            dirs.push(dir.clone());
        }
        let Ok(target) = fs::read_link(&step) else {
            break;
        };
        step = dir.join(target);
    }
    let real = path.canonicalize().ok().and_then(|real| real.parent().map(Path::to_owned));
    dirs.extend(real.filter(|real| !dirs.contains(real)));
    dirs
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::mpsc;

    use super::*;

    /// A watcher of a file in a directory of its own.
    struct Bench {
        dir: tempfile::TempDir,
        waker: Sender<Wake>,
        said: Receiver<Result<usize, String>>,
    }

    impl Bench {
        fn start(prepare: impl FnOnce(&Path)) -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            prepare(dir.path());
            let (waker, calls) = mpsc::channel();
            let (tell, said) = mpsc::channel();
            let (path, own) = (dir.path().join("mesh.yaml"), waker.clone());
            std::thread::spawn(move || {
                run(&path, References::Within, &calls, &own, &mut |read| {
                    let read = read.map(|model| model.services.len());
                    let _ = tell.send(read.map_err(|error| error.to_string()));
                });
            });
            Self { dir, waker, said }
        }

        fn next(&self) -> Result<usize, String> {
            self.said.recv_timeout(Duration::from_secs(4)).expect("a reading before the fallback")
        }
    }

    impl Drop for Bench {
        fn drop(&mut self) {
            let _ = self.waker.send(Wake::Stop);
        }
    }

    fn services(count: usize) -> String {
        let item = |n| format!("- {{namespace: n, hostname: h{n}}}\n");
        format!("services:\n{}", (0..count).map(item).collect::<String>())
    }

    #[test]
    fn a_file_written_in_place_or_renamed_over_is_read_again() {
        let bench = Bench::start(|dir| {
            fs::write(dir.join("mesh.yaml"), services(1)).expect("written");
        });
        assert_eq!(bench.next(), Ok(1));
        fs::write(bench.dir.path().join("mesh.yaml"), services(2)).expect("written");
        assert_eq!(bench.next(), Ok(2));
        fs::write(bench.dir.path().join("new"), services(3)).expect("written");
        fs::rename(bench.dir.path().join("new"), bench.dir.path().join("mesh.yaml"))
            .expect("renamed");
        assert_eq!(bench.next(), Ok(3));
        fs::remove_file(bench.dir.path().join("mesh.yaml")).expect("removed");
        assert!(bench.next().expect_err("it is gone").contains("mesh.yaml"));
        bench.waker.send(Wake::Reload).expect("it listens");
        assert!(bench.next().is_err());
    }

    #[test]
    fn a_config_maps_swap_of_links_is_seen() {
        let bench = Bench::start(|dir| {
            for (name, count) in [("v1", 1), ("v2", 2)] {
                fs::create_dir(dir.join(name)).expect("a directory");
                fs::write(dir.join(name).join("mesh.yaml"), services(count)).expect("written");
            }
            symlink("v1", dir.join("data")).expect("a link");
            symlink("data/mesh.yaml", dir.join("mesh.yaml")).expect("a link");
        });
        assert_eq!(bench.next(), Ok(1));
        symlink("v2", bench.dir.path().join("data_new")).expect("a link");
        fs::rename(bench.dir.path().join("data_new"), bench.dir.path().join("data"))
            .expect("renamed");
        assert_eq!(bench.next(), Ok(2));
    }

    #[test]
    fn a_missing_file_is_found_once_it_is_there() {
        let bench = Bench::start(|_| {});
        assert!(bench.next().is_err());
        fs::write(bench.dir.path().join("mesh.yaml"), services(1)).expect("written");
        assert_eq!(bench.next(), Ok(1));
    }
}
